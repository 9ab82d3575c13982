"""A small world for tests of upkeep: events that are journaled and flushed, and a list of them as the oracle."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from libs.domain.blocks import encode
from libs.domain.entry import Entry
from libs.domain.minutes import MINUTE_US, MinuteRange
from libs.rpc import columns
from libs.stores.postgres import PostgresSettings
from libs.telemetry.setup import OFF
from services.counting.flush.buffer import Buffer
from services.counting.flush.rollups import apply
from services.counting.generations.rolling import RollUp
from services.counting.generations.sealing import Sealing
from services.counting.journal.entry import NumberedEntry
from services.counting.journal.log import open_log
from services.counting.journal.position import Position
from services.counting.merging.merger import Merger
from services.counting.metrics import Metrics
from services.counting.settings import FlushSettings, GenerationSettings, RecoverySettings
from services.query.pending import read_everything
from services.query.question import Question, Size
from services.query.unsettled import Unsettled
from services.query.warm import read_rollups
from tests.support.entries import new_id
from tests.support.shards import FAST
from tests.unit.libs.domain.batches import Row, batch_of
from tests.unit.libs.domain.oracle import Truth

SMALL = FlushSettings(merge_cells=1)
"""Merges and roll-ups in the smallest pieces that there are."""
UNBOUNDED = Size(None, 1_000_000)
DUE = GenerationSettings(seal_seconds=1e-6)
"""With which every generation is due as soon as it has counts."""
_PARTITION = 0
_INSERT = """
insert into counting.journal (request_id, partition, log_id, seq, received_at, events, request_hash, payload)
values ($1, $2, $3, $4, now(), $5, 0, $6)"""


def sealing_of(pool: Any) -> Sealing:
    """Which seals what there is."""
    return Sealing(pool, DUE)


def roll_up_of(pool: Any, flush: FlushSettings = SMALL) -> RollUp:
    """Which rolls up in small pieces."""
    return RollUp(pool, flush, RecoverySettings())


def merger_of(pool: Any) -> Merger:
    """Which merges in small pieces."""
    return Merger(pool, SMALL, RecoverySettings(), Metrics(OFF), OFF)


@dataclass(slots=True)
class Log:
    """How far a log is."""

    log_id: int
    applied: int = 0
    entries: list[tuple[int, list[Row]]] = field(default_factory=list)
    """journaled and not in the rollups: seq and events, each with its time"""
    last_seq: int = 0


@dataclass(slots=True)
class World:
    """Logs that are written without shards, and what they were told."""

    dsn: str
    database: Any
    logs: list[Log] = field(default_factory=list)
    counted: list[Row] = field(default_factory=list)
    unsettled: Unsettled = field(default_factory=Unsettled)

    async def open_log(self) -> Log:
        """A log, opened as shards do."""
        opened = await open_log(self.dsn, PostgresSettings(), FAST, f"shard {len(self.logs)}")
        opened.abandon()
        self.logs.append(Log(opened.log_id))
        return self.logs[-1]

    async def journal(self, log: Log, rows: Sequence[Row]) -> None:
        """One entry. Every event has a time."""
        log.last_seq += 1
        payload = columns.encode(batch_of(list(rows))).SerializeToString()
        arguments = (new_id(), _PARTITION, log.log_id, log.last_seq, len(rows), payload)
        await self.database.execute(_INSERT, *arguments)
        log.entries.append((log.last_seq, list(rows)))

    async def flush(self, log: Log, connection: Any = None) -> None:
        """Everything that the log has."""
        buffer = Buffer()
        for seq, rows in log.entries:
            entry = Entry(uuid.UUID(int=seq), _PARTITION, 0, b"", batch_of(rows))
            buffer.add(NumberedEntry(seq, 0, entry))
        start, end = Position(log.applied), Position(log.last_seq)
        if start != end:
            assert await apply(connection or self.database, log.log_id, start, end, encode(buffer.run()), 500)
        self.counted += [row for _, rows in log.entries for row in rows]
        log.applied, log.entries = log.last_seq, []

    async def add(self, log: Log, rows: Sequence[Row]) -> None:
        """Journal and flush."""
        await self.journal(log, rows)
        await self.flush(log)

    async def assert_reads(self, video: str, event_type: str, minutes: MinuteRange) -> None:
        """A cached and a strong read say what the events say."""
        question = Question(video, event_type, minutes)
        cached = await read_rollups(self.database, self.unsettled, question, UNBOUNDED)
        _truth(self.counted, question).assert_is(cached.cell)
        strong = await read_everything(self.database, self.unsettled, question, UNBOUNDED, _PARTITION)
        pending = [row for log in self.logs for _, rows in log.entries for row in rows]
        _truth([*self.counted, *pending], question).assert_is(strong.cell)


async def open_world(dsn: str) -> World:
    """With one log."""
    world = World(dsn, await asyncpg.connect(dsn))
    await world.open_log()
    return world


def minute_row(video: str, event_type: str, minute: int, value: float | None = None) -> Row:
    """An event of a minute."""
    return Row(video, event_type, time_us=minute * MINUTE_US, value=value)


def _truth(rows: Sequence[Row], question: Question) -> Truth:
    video, event_type, start, end = question.arguments()
    return Truth(
        [
            row.value
            for row in rows
            if (row.video_id, row.event_type) == (video, event_type)
            and start <= (row.time_us or 0) // MINUTE_US < end
        ]
    )
