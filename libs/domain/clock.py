"""Time, injected so that a test can set it."""

from typing import Protocol


class Clock(Protocol):
    """The source of time."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        ...

    def now_us(self) -> int:
        """Microseconds since 1970-01-01 UTC."""
        ...
