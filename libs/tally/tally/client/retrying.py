"""When a request is sent again: how long to wait, and how much of it the service has to bear.

Full jitter: a random part of a wait that doubles (M. Brooker, "Exponential Backoff And Jitter", AWS, 2015).
The budget is that of Finagle's RetryBudget: a share of the requests, and a little besides, so that a client
that gets no answers at all still asks now and then.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
_ROUNDING = 1e-6
"""What may be missing from a token that was waited for."""


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
    """Tokens, one for each retry. They come in with the requests and with time, up to `most`.

    A retry that succeeds gives its token back, so it is those that fail which are bounded, and all that had to wait
    are soon let through when the service is well again. Nobody takes a token before it is there: so whoever gives up
    leaves no debt to the others.
    """

    def __init__(
        self, now: Callable[[], float], *, share: float = 0.2, per_second: float = 1.0, most: float = 10.0
    ) -> None:
        """`share`: of the requests. `now`: the time of the event loop, in seconds."""
        self._now = now
        self._share = share
        self._per_second = per_second
        self._most = most
        self._tokens = most
        self._at = now()
        self._turn = asyncio.Lock()  # serves those who wait in the order in which they came
        self._changed = asyncio.Event()
        self._is_over = False

    def earn(self) -> None:
        """A request goes for the first time."""
        self._add(self._share)

    async def take(self) -> None:
        """Take a token, as soon as there is one. Whoever is cancelled meanwhile has taken none."""
        async with self._turn:
            while (wait_s := self._wait_s()) > 0 and not self._is_over:
                self._changed.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._changed.wait()
            self._tokens -= 1.0

    def give_back(self) -> None:
        """The retry for which a token was taken succeeded, or was not made."""
        self._add(1.0)

    def give_way(self) -> None:
        """Let everybody through from now on: the client is closed, and they will be told."""
        self._is_over = True
        self._changed.set()

    def _wait_s(self) -> float:
        """The time until there is a token, if none comes in by a request; in seconds."""
        now = self._now()
        self._tokens = min(self._most, self._tokens + (now - self._at) * self._per_second)
        self._at = now
        missing = 1.0 - self._tokens
        return missing / self._per_second if missing > _ROUNDING else 0.0

    def _add(self, tokens: float) -> None:
        self._tokens = min(self._most, self._tokens + tokens)
        self._changed.set()
