"""The rate limit of a host: calls in fixed windows, with the headers of Bluesky's own code."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Window:
    """So many calls in each window; the truth of what each had is kept."""

    limit: int = 3_000
    seconds: int = 300
    clock: Callable[[], float] = lambda: 0.0
    """seconds since 1970"""
    calls: Counter[int] = field(default_factory=Counter)
    """in each window, by its number"""
    refused: int = 0

    def take(self) -> tuple[bool, Mapping[str, str]]:
        """Whether one more call is allowed now, and the headers of its answer."""
        number = int(self.clock() // self.seconds)
        is_allowed = self.calls[number] < self.limit
        if is_allowed:
            self.calls[number] += 1
        else:
            self.refused += 1
        return is_allowed, {
            "ratelimit-limit": str(self.limit),
            "ratelimit-remaining": str(self.limit - self.calls[number]),
            "ratelimit-reset": str(math.ceil((number + 1) * self.seconds)),
            "ratelimit-policy": f"{self.limit};w={self.seconds}",
        }
