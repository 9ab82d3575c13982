"""Time for the scheduler: Postgres's, or the clock of a test."""

from datetime import UTC, datetime, timedelta
from typing import Any

from libs.domain.clock import Clock
from libs.stores.server_clock import ServerClock
from tally.contract.errors import Unavailable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TRIES = 5


class Timekeeper:
    """Tells the time to everything that plans, leases and pays."""

    def __init__(self, clock: Clock, pool: Any, most_uncertainty_seconds: float) -> None:
        """`pool` is for readings of Postgres's clock, when the last one is not certain enough."""
        self._clock = clock
        self._pool = pool
        self._most_uncertainty_seconds = most_uncertainty_seconds

    def now(self) -> datetime:
        """The time, in UTC."""
        return _EPOCH + timedelta(microseconds=self._clock.now_us())

    def monotonic(self) -> float:
        """Seconds that never go back, for the length of waits."""
        return self._clock.monotonic()

    async def certain_now(self) -> datetime:
        """The time, for leasing and paying. Raises Unavailable while it is too uncertain (R000-13)."""
        if isinstance(self._clock, ServerClock):
            for _ in range(_TRIES):
                if self._clock.uncertainty_seconds <= self._most_uncertainty_seconds:
                    break
                await self._clock.read(self._pool)
            else:
                raise Unavailable(
                    f"Postgres's clock is known to {1000 * self._clock.uncertainty_seconds:.0f} ms only, so nothing "
                    "is leased or paid; ask again. Look at Postgres's load and at the network to it"
                )
        return self.now()
