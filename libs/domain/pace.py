"""GCRA: calls at an even pace, of which no window of any start holds more than the limit (T002-07). Pure.

https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm: a call is allowed when the theoretical arrival time is not
further ahead than the tolerance. In any span of s seconds at most (s + tolerance) / interval + 1 calls are allowed. A
call reaches the server up to `delay_seconds` after it was allowed, so a window of w seconds at the server holds calls
that were allowed within w + delay. The interval is chosen so that this is never more than the limit.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit on the calls in any window of this length."""

    calls: int
    window_seconds: float
    burst: int = 1
    """calls that may follow each other at once, after a pause; less than `calls`"""
    delay_seconds: float = 0.0
    """at most so long after it was allowed a call reaches the server"""

    @property
    def interval_seconds(self) -> float:
        """Between two calls at the steady rate."""
        return (self.window_seconds + self.delay_seconds) / (self.calls - self.burst)


class Pace:
    """When the next call may be made. All times are of one monotonic clock, in seconds."""

    def __init__(self, limit: Limit) -> None:
        self._interval = limit.interval_seconds
        self._tolerance = (limit.burst - 1) * self._interval
        self._arrival = float("-inf")
        """the theoretical arrival time of the next call"""
        self._paused_until = float("-inf")

    def take(self, now: float) -> float:
        """Allow one call; it may be made that many seconds from now, and not before."""
        at = max(now, self._paused_until, self._arrival - self._tolerance)
        self._arrival = max(self._arrival, at) + self._interval
        return at - now

    def pause(self, until: float) -> None:
        """Allow no call before that moment; those that were allowed already are not taken back."""
        self._paused_until = max(self._paused_until, until)
