"""Reads this region's own counts, which the counting service writes: in blocks, and before these in rows.

A pass finds what has changed by the system column `xmin`, outside of the flush (ADR 25). It has 32 bits, so it is
compared by its distance from the newest transaction id, never by size; that of a row which is older than 2^31 ids is
negative, and no pass begins so early. A snapshot lists only ids of whole transactions, so writers of the rollups use no
savepoints (T003-48). `rollup_blocks` reads the blocks.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from services.replication.epoch import Life, check_life
from services.replication.rollup_blocks import is_changed, read_block_page, read_changed_cells
from services.replication.rollups import RollupRow, row_of
from tally.replication.v1 import peers_pb2 as pb

_ROLLUPS = "counting.rollup_row"
_LOGS = "counting.log join counting.checkpoint using (log_id)"
_JOURNAL = "counting.journal"
_ROW = "video_id, event_type, minute, generation, count, value_count, sum, min, max, m2"

_SNAPSHOT = "select pg_current_snapshot()::text"
# The next transaction id as this transaction's age() sees it, in full: 64 bits.
_NEXT_ID = """
select xmax + age((xmax & 4294967295)::text::xid) as next_id, xmax
from (select pg_snapshot_xmax(pg_current_snapshot())::text::int8 as xmax) as snapshot"""
_FARTHEST = "select $1::int8 - pg_snapshot_xmin($2::text::pg_snapshot)::text::int8"
_CHANGED = f"select {_ROW} from {_ROLLUPS} where {is_changed('xmin', 1)}"
_PAGE = f"""
select {_ROW} from {_ROLLUPS}
where (video_id, event_type, minute, generation) > ($1, $2, $3, $4)
order by video_id, event_type, minute, generation limit $5"""
_ABOUT = f"""
select coalesce(sum(greatest(reltuples, 0)), 0)::bigint
    + (select coalesce(sum(cells), 0) from counting.rollup_block where generation > 0)
from pg_class join pg_inherits on oid = inhrelid where inhparent = '{_ROLLUPS}'::regclass"""
# As for a read of the rollups: nothing was journaled before it that they lack in this snapshot.
_AS_OF = f"""
select (extract(epoch from least(now(), (
    select min(greatest(received_at, opened_at))
    from {_LOGS} cross join lateral (
        select received_at from {_JOURNAL} as unapplied
        where unapplied.log_id = log.log_id and seq > applied_seq and request_id >= opening_floor
        order by seq limit 1
    ) as first_unapplied
    where state <> 'settled'
))) * 1000000)::bigint"""
_HAS_COUNTS = f"""
select exists (select from counting.rollup_block) or exists (select from {_ROLLUPS})
    or exists (select from {_JOURNAL})"""
_MOST_DISTANT = 2**31 - 1
"""Rows with an older transaction id than this cannot be compared by its 32 bits."""
_FIRST = pb.RollupKey(minute=-1, generation=-1)


class TooOld(Exception):
    """A watermark is too old to find changes since then by transaction ids: everything must be loaded."""


@dataclass(frozen=True, slots=True)
class RollupPass:
    """What has changed since a watermark, in one snapshot."""

    target: str
    as_of_us: int
    pages: AsyncIterator[list[RollupRow]]


async def has_counts(connection: Any) -> bool:
    """Whether anything was ever counted here, or is journaled and will be."""
    found: bool = await connection.fetchval(_HAS_COUNTS)
    return found


class RollupSource:
    """Reads the rollups of this region."""

    def __init__(self, pool: Any, life: Life, pass_pool: Any) -> None:
        """`pass_pool`: for passes, which take long.

        Whatever is read in another life of the database than `life` raises PeerMismatch.
        """
        self._pool = pool
        self._life = life
        self._pass_pool = pass_pool

    async def begin_load(self) -> tuple[str, int]:
        """A snapshot of now, before the first page of a load, and how many rows there are, about."""
        async with self._pool.acquire() as connection, connection.transaction():
            await check_life(connection, self._life)
            return await connection.fetchval(_SNAPSHOT), await connection.fetchval(_ABOUT)

    async def read_page(self, begun_at: str, after: pb.RollupKey | None, limit: int) -> list[RollupRow]:
        """The next rows of a load, by key, in a snapshot of their own; none: it is through."""
        key = after or _FIRST
        arguments = (key.video_id, key.event_type, key.minute, key.generation)
        async with (
            self._pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            await check_life(connection, self._life, begun_at)
            if after is None or after.generation >= 0:
                if rows := await connection.fetch(_PAGE, *arguments, limit):
                    return [row_of(row) for row in rows]
                after = None
            return await read_block_page(connection, after, limit)

    @asynccontextmanager
    async def open_pass(self, watermark: str, page_rows: int) -> AsyncIterator[RollupPass]:
        """A pass from a watermark, whose pages are all of one snapshot: its target. Raises TooOld."""
        async with (
            self._pass_pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            await check_life(connection, self._life, watermark)
            target = await connection.fetchval(_SNAPSHOT)
            as_of_us = await connection.fetchval(_AS_OF)
            next_id = await connection.fetchval(_NEXT_ID)
            farthest = await connection.fetchval(_FARTHEST, next_id, watermark)
            if farthest > _MOST_DISTANT:
                raise TooOld
            since = (watermark, farthest, next_id)
            cursor = await connection.cursor(_CHANGED, *since)
            yield RollupPass(target, as_of_us, _pages(connection, cursor, since, page_rows))


async def _pages(
    connection: Any, cursor: Any, since: tuple[str, int, int], page_rows: int
) -> AsyncIterator[list[RollupRow]]:
    while page := await cursor.fetch(page_rows):
        yield [row_of(row) for row in page]
    async for rows in read_changed_cells(connection, since):
        for begin in range(0, len(rows), page_rows):
            yield rows[begin : begin + page_rows]
