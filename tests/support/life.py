"""One life of a shard, a step at a time: the real log, journal, appender and rollups, without the loops around them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from libs.domain.blocks import encode
from libs.domain.entry import Outcome
from libs.stores.postgres import PostgresSettings, connect
from libs.stores.write_connection import WriteConnection
from libs.telemetry.setup import OFF
from services.counting.flush import rollups
from services.counting.flush.backlog import Backlog, Step
from services.counting.journal.appender import Appender
from services.counting.journal.journal import Journal
from services.counting.journal.log import Log, open_log
from services.counting.journal.position import Position
from services.counting.journal.queue import Queue
from services.counting.metrics import Metrics
from services.counting.recovery.recovery import Recovery
from services.counting.settings import FlushSettings, JournalSettings, RecoverySettings
from tests.support.clock import Clock
from tests.support.entries import Counts, as_entry, cut_request
from tests.support.shards import FAST

_TIMEOUT_S = 5.0
_STATEMENT_CELLS = 5_000
NOW_S = 1_700_000_000.0


@dataclass(frozen=True, slots=True)
class Flush:
    """What a flush has taken out of the backlog, and where it begins."""

    start: Position
    step: Step


class Life:
    """Inserts and flushes when it is told to."""

    def __init__(self, log: Log, connection: Any) -> None:
        self.log = log
        self.connection = connection
        """asyncpg's, for inserts and flushes"""
        self.appender = Appender(
            log, Journal(log.inserts, log.log_id, _TIMEOUT_S), backlog(), Clock(NOW_S), OFF, Metrics(OFF)
        )

    async def send(self, counts: Counts, request_id: UUID | None = None) -> set[Outcome]:
        """Insert one request as one group; what its entries were told. Raises what `append` does if not all were."""
        queue = Queue(JournalSettings())
        outcomes = queue.enqueue([as_entry(entry) for entry in cut_request(counts, request_id)])
        try:
            await self.appender.append(await queue.take_group())
        except Exception:
            if not all(outcome.done() for outcome in outcomes):
                raise
        return {outcome.result() for outcome in outcomes}

    def take(self) -> Flush:
        """Begin a flush."""
        [step] = self.appender.backlog.take(self.log.cut)
        return Flush(self.log.applied, step)

    async def commit(self, flush: Flush) -> bool:
        """End it; false when the checkpoint was elsewhere. Raises InDoubt and Refused."""

        async def move(connection: Any) -> bool:
            blocks = encode(flush.step.buffer.run())
            return await rollups.apply(
                connection, self.log.log_id, flush.start, flush.step.end, blocks, _STATEMENT_CELLS
            )

        return await self.log.flushes.run(move, timeout_seconds=_TIMEOUT_S)


def backlog(most_cells: int = 1_000_000) -> Backlog:
    """Of steps that have no more cells than that."""
    return Backlog(lambda: most_cells)


@asynccontextmanager
async def open_life(dsn: str) -> AsyncIterator[Life]:
    """A life with a new log, over one connection that the log does not name, so that nobody puts an end to it.

    Its name has "counting inserts" in it. The log is left as it is.
    """
    log = await open_log(dsn, PostgresSettings(), FAST, "shard")
    log.abandon()
    connection = await connect(dsn, PostgresSettings(), "counting inserts of a test")
    log.inserts = log.flushes = WriteConnection(connection)
    try:
        yield Life(log, connection)
    finally:
        connection.terminate()


async def take_over(dsn: str, log_id: int, settings: RecoverySettings = FAST) -> bool:
    """Recover a log once, as any shard does for any log; true when it is settled."""
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
        return await Recovery(pool, settings, FlushSettings()).take_over(log_id)
