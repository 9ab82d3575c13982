"""The flush: writes the backlog of one log to the rollups, as runs, up to the cut."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import structlog

from libs.domain.blocks import Block, encode
from libs.domain.clock import Clock
from libs.stores.write_connection import InDoubt, Refused
from services.counting.flush.backlog import Step
from services.counting.flush.pace import Pace
from services.counting.flush.rollups import apply
from services.counting.journal.appender import Appender, LogClosed
from services.counting.journal.log import Log
from services.counting.journal.position import Position
from services.counting.metrics import Metrics
from services.counting.settings import SERVER_ENDS_FIRST_S, FlushSettings
from tally.contract.errors import Overloaded

_LOGGER = structlog.get_logger(__name__)

_MIN_DELAY_S, _MAX_DELAY_S = 0.1, 2.0


class Flusher:
    """Flushes one log again and again."""

    def __init__(
        self,
        log: Log,
        appender: Appender,
        settings: FlushSettings,
        pace: Pace,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._metrics = metrics
        self._log = log
        self._appender = appender
        self._settings = settings
        self._clock = clock
        self._wake = asyncio.Event()
        self._pace = pace
        self._timeout_seconds = settings.timeout_seconds or pace.longest_seconds + SERVER_ENDS_FIRST_S
        self._stopping = False
        self.oldest_unapplied_at: float | None = None
        """monotonic seconds since when something waits for a flush"""

    async def run(self) -> None:
        """Flush until `stop`. Raises InDoubt, and LogClosed when another process has moved the checkpoint."""
        while not self._stopping:
            await self._until_due()
            self._wake.clear()
            await self.flush()

    async def _until_due(self) -> None:
        """Wait as long as the pace says, but no longer once there is much, or once the load is over."""
        due_at = self._clock.monotonic() + self._pace.pause_seconds
        while (left := due_at - self._clock.monotonic()) > 0:
            events = self._appender.backlog.event_count
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, self._settings.interval_seconds)):
                    await self._wake.wait()
                    return
            if self._pace.is_quiet(self._appender.backlog.event_count - events):
                return

    def stop(self) -> None:
        """Make `run` flush once more and return."""
        self._stopping = True
        self._wake.set()

    def check_capacity(self, waiting: int, arriving: int) -> None:
        """Raises Overloaded when the arriving events, each perhaps a cell, might be too many for the backlog.

        `waiting`: the events that will come into it before. Where there is nothing yet everything may go, or what is
        too large for a slow server would always be refused.
        """
        before = self._appender.backlog.cell_count + waiting
        if before and before + arriving > self._pace.most_cells:
            self._wake.set()
            raise Overloaded(
                "events come faster than they can be added to the rollups; send the same request again later",
                retry_after_s=min(max(self._pace.took_seconds, _MIN_DELAY_S), _MAX_DELAY_S),
            )

    def note_arrival(self) -> None:
        """Something was journaled, and waits for a flush from now on; one is due at once when there is much."""
        if self.oldest_unapplied_at is None:
            self.oldest_unapplied_at = self._clock.monotonic()
        if self._appender.backlog.cell_count >= self._pace.due_cells:
            self._wake.set()

    async def flush(self) -> None:
        """Move everything up to the cut, nearly always in one step. Raises InDoubt and LogClosed."""
        log = self._log
        if log.applied == Position(log.cut):
            return
        begun, cut = self._clock.monotonic(), log.cut
        with self._appender.tracing.flush():
            for step in self._appender.backlog.take(cut):
                await self._take_step(step)
        self.oldest_unapplied_at = None if log.cut == cut else begun

    async def _take_step(self, step: Step) -> None:
        """Move one step, again until it gets in."""
        # In a thread of its own, beside the event loop.
        blocks = await asyncio.to_thread(lambda: encode(step.buffer.run()))
        cells = sum(block.cells for block in blocks)
        tried = self._clock.monotonic()
        while not await self._try(blocks, cells, step.end):
            await asyncio.sleep(self._settings.interval_seconds)
            tried = self._clock.monotonic()
        self._log.applied = step.end
        self._pace.note(cells, self._clock.monotonic() - tried)
        self._metrics.flush_duration.record(self._pace.took_seconds)
        self._metrics.flush_cells.add(cells)

    async def _try(self, blocks: Sequence[Block], cells: int, end: Position) -> bool:
        """One attempt: whether it got in; false when the server refused it. Raises InDoubt and LogClosed."""
        log, size, begun = self._log, self._settings.statement_cells, self._clock.monotonic()

        async def move(connection: Any) -> bool:
            return await apply(connection, log.log_id, log.applied, end, blocks, size)

        try:
            if not await log.flushes.run(move, timeout_seconds=self._timeout_seconds):
                raise LogClosed
        except InDoubt:
            self._pace.note_in_doubt(cells, self._clock.monotonic() - begun)
            raise
        except Refused as refused:
            if refused.is_of_the_data or self._stopping:
                # Recovery finds the bad entry and makes it a dead letter; the next start has the same journal.
                raise InDoubt(str(refused)) from refused
            _LOGGER.warning("flush refused, and tried again", log_id=log.log_id, error=str(refused))
            return False
        return True
