"""Recovery: open → closed → settled. The one way in which the entries of a lost buffer reach the rollups.

Any shard may do any step for any log at any time, twice at once, or be cut off in the middle: closing is decided by the
log's row, applying by the compare and set of its checkpoint.
"""

from collections.abc import Sequence
from typing import Any

import asyncpg
import structlog

from libs.domain.entry import Entry
from libs.domain.errors import InvalidRequest
from libs.rpc.columns import parse
from libs.stores.postgres import AWAY, is_of_the_data
from services.counting.buffer import Buffer
from services.counting.dead_letters import DeadLetter, set_aside
from services.counting.entry import NumberedEntry
from services.counting.log import ROLLUPS
from services.counting.rollups import apply
from services.counting.settings import FlushSettings, RecoverySettings

_LOGGER = structlog.get_logger(__name__)

# A plain update would not wait for an insert that holds the row `for key share`; this lock does not go together
# with it. Skipping instead of waiting: whoever holds the row is looked at first.
_LOCK = "select state from log where log_id = $1 for update skip locked"
_CLOSE = "update log set state = 'closed' where log_id = $1 and state = 'open'"
_TERMINATE = """
select pg_terminate_backend(pid) from log join pg_stat_activity on pid = any (pids)
where log_id = $1 and application_name like 'tally counting % ' || log_id"""
_SETTLE = "update log set state = 'settled' where log_id = $1 and state = 'closed'"
_STATE = "select state from log where log_id = $1"
_APPLIED = "select applied_seq from checkpoint where log_id = $1 and consumer = $2"
# By number, never by time; no entry is below the floor that its log was opened with, which leaves old partitions out.
_UNAPPLIED = """
select * from (
    select journal.seq, request_id, partition, request_hash, payload, events,
        (extract(epoch from received_at) * 1000000)::bigint as received_at_us,
        sum(events) over (order by journal.seq) as events_so_far
    from log join journal using (log_id)
    where log_id = $1 and journal.seq > $2 and request_id >= opening_floor
    order by journal.seq limit $3
) as entry
where events_so_far - events < $3
order by seq"""


class Recovery:
    """Closes, applies and settles logs over a pool of connections."""

    def __init__(self, pool: Any, recovery: RecoverySettings, flush: FlushSettings) -> None:
        self._pool = pool
        self._settings = recovery
        self._flush = flush
        self._piece_events = recovery.piece_events

    async def take_over(self, log_id: int) -> bool:
        """Bring a log to its end, as far as it can be brought now; true when it is settled.

        Raises what is in AWAY when Postgres is away or too slow; everything done until then stays done.
        """
        if not await self._close(log_id):
            return False
        try:
            while await self._apply_piece(log_id):
                self._piece_events = min(2 * self._piece_events, self._settings.piece_events)
        except AWAY:
            # Perhaps it was too much for the time there is.
            self._piece_events = max(1, self._piece_events // 2)
            raise
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
        """Apply the next entries; false when there are none. The log must be closed."""
        async with self._pool.acquire() as connection:
            applied_seq = await connection.fetchval(_APPLIED, log_id, ROLLUPS)
            piece = await connection.fetch(_UNAPPLIED, log_id, applied_seq, self._piece_events)
            if not piece:
                return False
            while refusal := await self._try(connection, log_id, applied_seq, piece):
                if len(piece) == 1:
                    dead = [(piece[0], str(refusal))]
                    await self._apply(connection, log_id, applied_seq, piece, Buffer(), dead)
                    break
                piece = piece[: len(piece) // 2]  # until the entry to blame stands alone
            return True  # or somebody else has applied this piece: look again

    async def _try(
        self, connection: Any, log_id: int, applied_seq: int, piece: Sequence[Any]
    ) -> asyncpg.PostgresError | None:
        """Apply a piece. The error with which Postgres refuses its data, if it does: then nothing was applied."""
        try:
            await self._apply(connection, log_id, applied_seq, piece, *_read(piece))
        except asyncpg.PostgresError as error:
            if not is_of_the_data(error):
                raise
            return error
        return None

    async def _apply(
        self,
        connection: Any,
        log_id: int,
        applied_seq: int,
        piece: Sequence[Any],
        buffer: Buffer,
        dead: Sequence[tuple[Any, str]],
    ) -> None:
        """Apply a piece in one transaction: to the rollups what is in the buffer, the rest to the dead letters."""
        rows, to_seq = buffer.rows(), piece[-1]["seq"]
        async with connection.transaction():
            if await apply(connection, log_id, applied_seq, to_seq, rows, self._flush.statement_cells):
                for row, reason in dead:
                    await set_aside(connection, _letter_of(row, log_id, reason))


def _letter_of(row: Any, log_id: int, reason: str) -> DeadLetter:
    return DeadLetter(
        request_id=row["request_id"],
        partition=row["partition"],
        log_id=log_id,
        seq=row["seq"],
        received_at_us=row["received_at_us"],
        event_count=row["events"],
        request_hash=row["request_hash"],
        payload=row["payload"],
        reason=reason,
    )


def _read(rows: Sequence[Any]) -> tuple[Buffer, list[tuple[Any, str]]]:
    """Add the entries up; those that cannot be read come back with the reason."""
    buffer, dead = Buffer(), []
    for row in rows:
        try:
            events = parse(row["payload"], "payload")
        except InvalidRequest as error:
            dead.append((row, str(error)))
            continue
        entry = Entry(row["request_id"], row["partition"], row["request_hash"], row["payload"], events)
        buffer.add(NumberedEntry(row["seq"], row["received_at_us"], entry))
    return buffer, dead
