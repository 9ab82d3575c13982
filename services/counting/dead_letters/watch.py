"""The number of undecided dead letters: a metric, and a log line when it rises."""

from typing import Any

import structlog

from libs.runtime.loop import Loop
from libs.telemetry import catalogue
from libs.telemetry.setup import Telemetry
from services.counting.dead_letters.letters import count_waiting

_LOGGER = structlog.get_logger(__name__)

_LOOK_SECONDS, _LOOK_DEADLINE_SECONDS = 30.0, 30.0


class DeadLetterWatch:
    """Counts the letters of the whole cluster from time to time."""

    def __init__(self, pool: Any, telemetry: Telemetry) -> None:
        self._pool = pool
        self._waiting = 0
        self.loop = Loop(
            "dead letters",
            self._look,
            interval_seconds=_LOOK_SECONDS,
            deadline_seconds=_LOOK_DEADLINE_SECONDS,
            jitter=0.0,
            telemetry=telemetry,
        )
        catalogue.observe(telemetry.meter, catalogue.DEAD_LETTERS_WAITING, lambda: self._waiting)

    async def _look(self) -> None:
        before, self._waiting = self._waiting, await count_waiting(self._pool)
        if self._waiting > before:
            _LOGGER.warning(
                "dead letters wait for a decision: tally dead-letters list", waiting=self._waiting
            )
