"""Which logs a shard recovers: its own that it gave up, and those without a heartbeat."""

from collections.abc import Callable, Iterable
from typing import Any

import structlog

from libs.domain.clock import Clock
from libs.runtime.loop import Loop
from libs.stores.postgres import AWAY
from libs.telemetry.setup import Telemetry
from services.counting.journal.log import read_beats
from services.counting.metrics import Metrics
from services.counting.recovery.recovery import Recovery
from services.counting.recovery.takeover import Takeover
from services.counting.settings import RecoverySettings

_LOGGER = structlog.get_logger(__name__)

_DEADLINE_SECONDS = 600.0
"""A log that takes longer is continued by the next turn: what was applied until then stays applied."""


class Failover:
    """Recovers the logs that one shard is to recover; `read_own` gives the log that it writes to, if any."""

    def __init__(
        self,
        pool: Any,
        recovery: Recovery,
        settings: RecoverySettings,
        read_own: Callable[[], int | None],
        clock: Clock,
        metrics: Metrics,
        telemetry: Telemetry,
    ) -> None:
        self._pool = pool
        self._recovery = recovery
        self._read_own = read_own
        self._clock = clock
        self._metrics = metrics
        self._unsettled: set[int] = set()
        """logs that this shard gave up and that are not settled yet"""
        self._takeover = Takeover(settings.takeover_seconds, settings.heartbeat_seconds)
        self.loop = Loop(
            "recovery",
            self._look,
            interval_seconds=settings.heartbeat_seconds,
            deadline_seconds=_DEADLINE_SECONDS,
            jitter=0.0,
            telemetry=telemetry,
        )

    def give_up(self, log_id: int) -> None:
        """Recover this log from now on."""
        self._unsettled.add(log_id)

    async def recover_given_up(self) -> None:
        """Recover the logs that this shard gave up, each as far as it can be recovered now."""
        await self._recover(self._unsettled)

    async def _look(self) -> None:
        beats = await read_beats(self._pool)
        silent = self._takeover.look(beats, self._clock.monotonic())
        await self._recover(self._unsettled.union(silent) - {self._read_own()})

    async def _recover(self, log_ids: Iterable[int]) -> None:
        for log_id in list(log_ids):
            try:
                if await self._recovery.take_over(log_id):
                    self._unsettled.discard(log_id)
                    self._metrics.taken_over.add(1)
            except AWAY as error:
                _LOGGER.warning("log recovery failed; will retry", log_id=log_id, error=str(error))
