"""A budget for retries, so that the retries of several layers do not multiply the load of a failing service.

After gRPC's retry throttling (gRFC A6) and Finagle's RetryBudget: requests earn a share of a retry, and a trickle
lets a few through when nothing succeeds. A retry that succeeds gives back what it took, so it is those that fail
which are bounded.
"""

from collections.abc import Callable

_ROUNDING = 1e-6
"""What may be missing from a retry that was waited for."""


class RetryBudget:
    """Lets retries that fail be at most `share` of what earns, and `per_second`, and `burst` at once.

    `now` is a clock that never goes back, in seconds.
    """

    def __init__(self, now: Callable[[], float], *, share: float, per_second: float, burst: float) -> None:
        self._now = now
        self._share = share
        self._per_second = per_second
        self._burst = burst
        self._left = burst
        self._filled_at = now()

    @property
    def wait_s(self) -> float:
        """The seconds until there is a retry to take, if nothing earns one meanwhile."""
        now = self._now()
        self._add((now - self._filled_at) * self._per_second)
        self._filled_at = now
        missing = 1.0 - self._left
        return missing / self._per_second if missing > _ROUNDING else 0.0

    def take(self) -> bool:
        """Take one retry; False when there is none left just now."""
        if self.wait_s > 0.0:
            return False
        self._left -= 1.0
        return True

    def earn(self) -> None:
        """A request was sent for the first time, or succeeded at once; which of them earns is for the owner to say."""
        self._add(self._share)

    def give_back(self) -> None:
        """The retry that was taken succeeded, or was not made."""
        self._add(1.0)

    def note_success(self, *, retried: bool) -> None:
        """A request succeeded, where success is what earns.

        A retry gives back two: so the retries that had to wait while everything was away are soon all let through when
        it is back, each success making room for two more.
        """
        self._add(2.0 if retried else self._share)

    def _add(self, retries: float) -> None:
        self._left = min(self._burst, self._left + retries)
