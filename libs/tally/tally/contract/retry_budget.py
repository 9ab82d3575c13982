"""A budget for retries, so that a cluster in trouble is not hit by the product of everybody's retries.

After gRPC's retry throttling (gRFC A6) and Finagle's RetryBudget: what succeeds earns a share of a retry, and a trickle
lets a few through when nothing succeeds. What a retry took it gets back when it succeeds, twice: so the retries that
had to wait while everything was away are soon all let through when it is back, each success making room for two more.
"""

from libs.domain.clock import Clock


class RetryBudget:
    """Lets retries that fail be at most `share` of the successes, and `per_second`, and `burst` at once."""

    def __init__(self, clock: Clock, *, share: float, per_second: float, burst: int) -> None:
        self._clock = clock
        self._share = share
        self._per_second = per_second
        self._burst = float(burst)
        self._left = self._burst
        self._filled_at = clock.monotonic()

    def take(self) -> bool:
        """Take one retry; False when there is none left just now."""
        now = self._clock.monotonic()
        self._add((now - self._filled_at) * self._per_second)
        self._filled_at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def note_success(self, *, retried: bool) -> None:
        """Something succeeded, at once or as a retry."""
        self._add(2.0 if retried else self._share)

    def _add(self, retries: float) -> None:
        self._left = min(self._burst, self._left + retries)
