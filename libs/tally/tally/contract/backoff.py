"""Back-off: how long to wait before a retry; longer each time, up to a cap, with jitter.

Full jitter: a random part of a wait that doubles (M. Brooker, "Exponential Backoff And Jitter", AWS, 2015).
"""

import random
from dataclasses import dataclass

_MOST_DOUBLINGS = 30
_SHORTEST_S = 0.01


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits that double from `first_s` to at most `longest_s`, in seconds."""

    first_s: float
    longest_s: float

    def cap_s(self, retry: int) -> float:
        """The longest wait before a retry; the first one has the number 0."""
        return min(self.longest_s, self.first_s * 2.0 ** min(retry, _MOST_DOUBLINGS))

    def pause_s(self, retry: int) -> float:
        """A random part of that wait."""
        return random.uniform(0, self.cap_s(retry))  # noqa: S311 - spreads load, hides nothing


def spread_s(delay_s: float) -> float:
    """A delay that the other side asked for, with up to a fifth more, so that not all come back at once."""
    return max(delay_s, _SHORTEST_S) * random.uniform(1.0, 1.2)  # noqa: S311 - spreads load, hides nothing
