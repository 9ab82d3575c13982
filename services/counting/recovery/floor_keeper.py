"""Raises the floor with time: each shard reads the clocks, and raises it as far as they allow."""

import time
from collections.abc import Sequence
from typing import Any

import structlog
from opentelemetry.metrics import Observation

from libs.domain.floor_pace import FloorPace, Look, Verdict
from libs.runtime.loop import Loop
from libs.stores.floor import align_logs, raise_floor
from libs.stores.server_clock import Reading, read_clocks
from libs.telemetry import catalogue
from libs.telemetry.setup import Telemetry
from tally.contract.request_id import first_id_of, time_ms_of

_LOGGER = structlog.get_logger(__name__)

_LOOK_SECONDS, _LOOK_DEADLINE_SECONDS = 30.0, 60.0
_STEP_MS = 600_000
"""The floor rises in steps: each waits for the insert under way in each log."""
_FLOOR = "select floor from public.cluster"


class FloorKeeper:
    """One shard's part in keeping the floor."""

    def __init__(self, pool: Any, telemetry: Telemetry) -> None:
        self._pool = pool
        self._pace = FloorPace()
        self._alarm = ""
        self._found: tuple[int, Reading] | None = None
        """the floor in ms since 1970-01-01 UTC, and when it was there"""
        self.loop = Loop(
            "floor",
            self.look,
            interval_seconds=_LOOK_SECONDS,
            deadline_seconds=_LOOK_DEADLINE_SECONDS,
            jitter=0.0,
            telemetry=telemetry,
        )
        catalogue.observe(telemetry.meter, catalogue.FLOOR_AGE, self._ages)

    async def look(self) -> None:
        """Look once, and raise the floor if it is time to. Raises the errors in AWAY."""
        async with self._pool.acquire() as connection:
            floor_ms = time_ms_of(await connection.fetchval(_FLOOR))
            if (reading := await read_clocks(connection)) is None:
                return
            self._found = floor_ms, reading
            verdict = self._pace.judge(_look_of(floor_ms, reading))
            if verdict.floor_ms - floor_ms >= _STEP_MS:
                floor_ms = verdict.floor_ms
                await raise_floor(connection, first_id_of(floor_ms))
                self._found = floor_ms, reading
            await align_logs(connection)  # also when it stays: one may have been left behind
        self._tell(verdict, floor_ms)

    def _ages(self) -> Sequence[Observation]:
        """Of the floor that was seen last, by the time now: it grows while no look succeeds. None before the first."""
        if self._found is None:
            return []
        floor_ms, reading = self._found
        return [Observation((reading.now_us() // 1000 - floor_ms) / 1000)]

    def _tell(self, verdict: Verdict, floor_ms: int) -> None:
        # The text differs between readings by the seconds in it: log an alarm only when it begins.
        if bool(verdict.alarm) is bool(self._alarm):
            return
        self._alarm = verdict.alarm
        if self._alarm:
            floor = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(floor_ms / 1000))
            _LOGGER.error("the floor is not where it belongs", floor=floor, why=self._alarm)
        else:
            _LOGGER.info("the floor follows the time again")


def _look_of(floor_ms: int, reading: Reading) -> Look:
    return Look(floor_ms, reading.postgres_us // 1000, reading.machine_us // 1000, reading.taken_at)
