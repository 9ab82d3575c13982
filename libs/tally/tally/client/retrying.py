"""When a request is sent again: how long to wait, and how much of it the service has to bear.

Full jitter: a random part of a wait that doubles (M. Brooker, "Exponential Backoff And Jitter", AWS, 2015).
The budget is that of Finagle's RetryBudget: a share of the requests, and a little besides, so that a client
that gets no answers at all still asks now and then.
"""

import random
from collections.abc import Callable

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0


def longest_pause_s(retry: int) -> float:
    """Of the wait before the first retry, which has the number 0, and those after it; in seconds."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(retry, 30))


def pause_s(retry: int) -> float:
    """A random part of the longest wait, in seconds."""
    return random.uniform(0, longest_pause_s(retry))  # noqa: S311 - spreads load, hides nothing


def spread_s(delay_s: float) -> float:
    """A delay that the service asked for, with up to a fifth more, so that not all come back at once."""
    return max(delay_s, 0.01) * random.uniform(1.0, 1.2)  # noqa: S311 - spreads load, hides nothing


class RetryBudget:
    """Tokens, one for each retry. They come in with the requests and with time, up to `most`."""

    def __init__(
        self, now: Callable[[], float], *, share: float = 0.2, per_second: float = 1.0, most: float = 10.0
    ) -> None:
        """`share`: of the requests. `now`: monotonic seconds."""
        self._now = now
        self._share = share
        self._per_second = per_second
        self._most = most
        self._tokens = most
        self._at = now()

    def earn(self) -> None:
        """A request goes for the first time."""
        self._tokens = min(self._most, self._tokens + self._share)

    def spend(self) -> float:
        """Take a token, if need be one that is still to come: the seconds until it is there.

        So those who wait are served in the order in which they asked.
        """
        now = self._now()
        self._tokens = min(self._most, self._tokens + (now - self._at) * self._per_second)
        self._at = now
        self._tokens -= 1
        return max(0.0, -self._tokens / self._per_second)
