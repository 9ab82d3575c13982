"""Recovery: open → closed → settled. The only way by which the entries of a lost buffer reach the rollups.

Any shard may do any step for any log at any time, concurrently with another, and may be interrupted: the log's row
decides about closing, the compare and set of its checkpoint about applying.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import asyncpg
import structlog

from libs.domain.blocks import encode
from libs.domain.entry import Entry
from libs.rpc import columns
from libs.rpc.columns import parse
from libs.stores.postgres import AWAY
from libs.stores.write_connection import is_of_the_data
from services.counting.dead_letters.letters import DeadLetter, set_aside
from services.counting.flush.buffer import Buffer
from services.counting.flush.rollups import apply_within
from services.counting.journal.entry import NumberedEntry
from services.counting.journal.log import ROLLUPS
from services.counting.journal.position import Position
from services.counting.recovery.stride import Stride
from services.counting.settings import FlushSettings, RecoverySettings
from tally.contract.errors import InvalidRequest

_LOGGER = structlog.get_logger(__name__)

# A plain update would not wait for an insert that holds the row `for key share`; this lock does not go together
# with it. Skipping instead of waiting: the session that holds the row is checked first.
_LOCK = "select state from counting.log where log_id = $1 for update skip locked"
_CLOSE = "update counting.log set state = 'closed' where log_id = $1 and state = 'open'"
_TERMINATE = """
select pg_terminate_backend(pid) from counting.log join pg_stat_activity on pid = any (pids)
where log_id = $1 and application_name like 'tally counting % ' || log_id"""
_SETTLE = "update counting.log set state = 'settled' where log_id = $1 and state = 'closed'"
_STATE = "select state from counting.log where log_id = $1"
# Skipping one that is being moved: to wait for it would use up the time of a statement, and come to nothing.
_APPLIED = """
select applied_seq, applied_events from counting.checkpoint where log_id = $1 and consumer = $2
for no key update skip locked"""
# By number, never by time; no entry is below the floor that its log was opened with, which leaves old partitions out.
_UNAPPLIED = """
select * from (
    select journal.seq, request_id, partition, request_hash, payload, events,
        (extract(epoch from received_at) * 1000000)::bigint as received_at_us,
        sum(events) over (order by journal.seq) as events_so_far
    from counting.log join counting.journal using (log_id)
    where log_id = $1 and journal.seq > $2 and request_id >= opening_floor
    order by journal.seq limit $3
) as entry
where events_so_far - events < $3
order by seq"""


DeadRow = tuple[Any, str]
"""A row of the journal that cannot be applied, and why."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What one transaction applies: the events of a log between two positions, in its rows of the journal."""

    start: Position
    end: Position
    rows: Sequence[Any]

    @classmethod
    def cut(cls, start: Position, rows: Sequence[Any], most_events: int) -> "Piece":
        """The first entries that fit into the limit of events, or a part of the first one if it is larger.

        `rows`: at least one, from `start` on.
        """
        first = rows[0]
        begin = start.events_before(first["seq"])
        if first["events"] - begin > most_events:
            return cls(start, Position(first["seq"] - 1, begin + most_events), rows[:1])
        count, left = 0, most_events + begin
        while count < len(rows) and rows[count]["events"] <= left:
            left -= rows[count]["events"]
            count += 1
        return cls.of(start, rows[:count])

    @classmethod
    def of(cls, start: Position, rows: Sequence[Any]) -> "Piece":
        """All that is in these rows from `start` on."""
        return cls(start, Position(rows[-1]["seq"]), rows)

    @property
    def event_count(self) -> int:
        whole = sum(row["events"] for row in self.rows if row["seq"] <= self.end.seq)
        return int(whole) - self.start.events + self.end.events

    def read(self) -> tuple[Buffer, list[DeadRow]]:
        """The sums of its events; unreadable rows are returned with the reason."""
        buffer, dead = Buffer(), []
        for row in self.rows:
            try:
                events = parse(row["payload"], "payload")
            except InvalidRequest as error:
                dead.append((row, str(error)))
                continue
            entry = Entry(row["request_id"], row["partition"], row["request_hash"], row["payload"], events)
            numbered = NumberedEntry(row["seq"], row["received_at_us"], entry)
            begin, end = self.start.events_before(row["seq"]), self.end.events_before(row["seq"])
            buffer.add(numbered.part(begin, end or None) if begin or end else numbered)
        return buffer, dead


class Busy(Exception):
    """Another process is moving the checkpoint."""


class Recovery:
    """Closes, applies and settles logs over a pool of connections."""

    def __init__(self, pool: Any, recovery: RecoverySettings, flush: FlushSettings) -> None:
        self._pool = pool
        self._settings = recovery
        self._flush = flush
        longest_seconds = min(recovery.statement_timeout_seconds, recovery.transaction_timeout_seconds)
        self._stride = Stride(recovery.piece_events, longest_seconds)

    async def take_over(self, log_id: int) -> bool:
        """Bring a log to its end, as far as it can be brought now; true when it is settled.

        Raises the errors in AWAY when Postgres is unreachable or too slow; everything done until then stays done.
        """
        if not await self._close(log_id):
            return False
        try:
            while await self._apply_piece(log_id):
                pass
        except Busy:
            return False
        await self._pool.execute(_SETTLE, log_id)
        _LOGGER.info("log settled", log_id=log_id)
        return True

    async def _close(self, log_id: int) -> bool:
        """Close the log, in a transaction of its own; true when it is closed."""
        async with self._pool.acquire() as connection, connection.transaction():
            if await connection.fetchval(_LOCK, log_id) is not None:
                await connection.execute(_CLOSE, log_id)
        # The backends of its connections can do no good any more, and may hold the log's row or its checkpoint for a
        # shard that is frozen.
        await self._pool.execute(_TERMINATE, log_id)
        return bool(await self._pool.fetchval(_STATE, log_id) != "open")

    async def _apply_piece(self, log_id: int) -> bool:
        """Apply the next events; false when there are none. The log must be closed. Raises Busy."""
        async with self._pool.acquire() as connection:
            applied = await connection.fetchrow(_APPLIED, log_id, ROLLUPS)
            if applied is None:
                raise Busy
            start = Position(*applied)
            began, attempted = time.monotonic(), self._stride.events
            try:
                rows = await connection.fetch(_UNAPPLIED, log_id, start.seq, attempted)
                if not rows:
                    return False
                piece = Piece.cut(start, rows, attempted)
                attempted = piece.event_count
                await self._bring(connection, log_id, piece)
            except AWAY:
                self._stride.note_failure(attempted)  # perhaps it was too much for the time there is
                raise
            self._stride.note_success(time.monotonic() - began)
            return True  # or another process has applied this piece: check again

    async def _bring(self, connection: Any, log_id: int, piece: Piece) -> None:
        """Apply a piece, or less when Postgres refuses its data: half of it, until the bad entry is alone."""
        while refusal := await self._try(connection, log_id, piece):
            if len(piece.rows) == 1:
                await self._set_aside(connection, log_id, Piece.of(piece.start, piece.rows), str(refusal))
                break
            piece = Piece.of(piece.start, piece.rows[: len(piece.rows) // 2])

    async def _try(self, connection: Any, log_id: int, piece: Piece) -> asyncpg.PostgresError | None:
        """Apply a piece. The error with which Postgres refuses its data, if it does: then nothing was applied."""
        buffer, dead = piece.read()
        if dead and piece.end.events:  # what cannot be read has no parts
            piece = Piece.of(piece.start, piece.rows)
        try:
            await self._apply(connection, log_id, piece, buffer, dead)
        except asyncpg.PostgresError as error:
            if not is_of_the_data(error):
                raise
            return error
        return None

    async def _set_aside(self, connection: Any, log_id: int, entry: Piece, reason: str) -> None:
        """Pass over an entry, or over the rest of it when the rollups have a part."""
        await self._apply(connection, log_id, entry, Buffer(), [(entry.rows[0], reason)])

    async def _apply(
        self, connection: Any, log_id: int, piece: Piece, buffer: Buffer, dead: Sequence[DeadRow]
    ) -> None:
        """Apply a piece in one transaction: to the rollups what is in the buffer, the rest to the dead letters."""
        blocks, start, end = encode(buffer.run()), piece.start, piece.end
        async with connection.transaction():
            if await apply_within(connection, log_id, start, end, blocks, self._flush.statement_cells):
                for row, reason in dead:
                    await set_aside(
                        connection, _letter_of(row, log_id, reason, start.events_before(row["seq"]))
                    )


def _letter_of(row: Any, log_id: int, reason: str, applied_events: int) -> DeadLetter:
    """The letter of what the rollups do not have of an entry: all but its first events."""
    payload = row["payload"]
    if applied_events:
        with suppress(InvalidRequest):  # one that cannot be read stays as it is
            payload = columns.encode(parse(payload, "payload").part(applied_events, None)).SerializeToString()
        reason = (
            f"{reason} (the first {applied_events} events of the entry are counted; these are the others)"
        )
    return DeadLetter(
        request_id=row["request_id"],
        partition=row["partition"],
        log_id=log_id,
        seq=row["seq"],
        received_at_us=row["received_at_us"],
        event_count=row["events"] - applied_events,
        request_hash=row["request_hash"],
        payload=payload,
        reason=reason,
    )
