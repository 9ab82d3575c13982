"""How many dead letters wait for a decision: a metric, and a line in the log when there are more."""

import asyncio
from typing import Any

import structlog

from libs.stores.postgres import AWAY
from libs.telemetry import catalogue
from libs.telemetry.setup import Telemetry
from services.counting.dead_letters.letters import count_waiting

_LOGGER = structlog.get_logger(__name__)

_LOOK_SECONDS = 30.0


class DeadLetterWatch:
    """Counts the letters of the whole cluster from time to time."""

    def __init__(self, pool: Any, telemetry: Telemetry) -> None:
        self._pool = pool
        self._waiting = 0
        catalogue.observe(telemetry.meter, catalogue.DEAD_LETTERS_WAITING, lambda: self._waiting)

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                waiting = await count_waiting(self._pool)
            except AWAY:
                waiting = self._waiting
            if waiting > self._waiting:
                _LOGGER.warning("dead letters wait for a decision: tally dead-letters list", waiting=waiting)
            self._waiting = waiting
            await asyncio.sleep(_LOOK_SECONDS)
