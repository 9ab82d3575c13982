"""Reading of the blocks of counts: what their cells add up to over all runs, range by range of the videos' hashes.

A cell may be in several runs, and a merge moves it from one to another. A peer gets what a key amounts to in all of
them, in one snapshot, under the complement of its generation: so it never takes the place of a row from before there
were blocks (ADR 27).
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from libs.domain.blocks import decode
from libs.domain.runs import TYPE_BITS, Run, hash_of, merge
from services.replication.rollups import RollupRow
from tally.replication.v1 import peers_pb2 as pb


def is_changed(xmin: str, place: int) -> str:
    """A condition: whether a row was written since a watermark.

    Its parameters, from `place` on: the watermark, the distance of its oldest id from the next one, and the next one.
    """
    return (
        f"age({xmin}) between 0 and ${place + 1} and not pg_visible_in_snapshot("
        f"(${place + 2}::int8 - age({xmin}))::text::xid8, ${place}::text::pg_snapshot)"
    )


# Those below 0 are hours, days and totals of the others. A peer gets minutes alone, whether they are rolled up or not.
_GENERATIONS = """
select distinct generation from counting.rollup_run where generation > $1 order by generation"""
_BOUND = """
select min(bound.first) from counting.rollup_run as run cross join lateral (
    select first from counting.rollup_block as block
    where block.generation = run.generation and block.run_id = run.run_id and first > $2
    order by first, number offset $3 limit 1
) as bound
where generation = $1"""
# Those that begin in the range, and in each run the last one that begins before.
_IN_RANGE = """
select {columns} from counting.rollup_run as run cross join lateral (
    (select xmin as written, body from counting.rollup_block as block
        where block.generation = run.generation and block.run_id = run.run_id
            and first >= $2 and ($3::bigint is null or first < $3))
    union all
    (select xmin as written, body from counting.rollup_block as block
        where block.generation = run.generation and block.run_id = run.run_id and first < $2
        order by first desc, number desc limit 1)
) as near
where run.generation = $1"""
_IS_CHANGED = is_changed("written", 4)
_READ = _IN_RANGE.format(columns="body")
_READ_CHANGED = _IN_RANGE.format(columns=f"body, {_IS_CHANGED} as is_changed")
_HAS_CHANGED = f"select exists ({_IN_RANGE.format(columns='1')} and {_IS_CHANGED})"
_LOWEST = -(2**63)
_RANGE_BLOCKS = 200
"""So many blocks of one run, at most, are in a range."""
_BLOCK_CELLS = 240

Since = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Range:
    """The hashes from `start` to before `end`; None: to the end."""

    generation: int
    start: int
    end: int | None

    def cut(self, body: bytes) -> Run | None:
        """What of a block is in the range."""
        _, part = decode(body).split(self.start)
        if part is not None and self.end is not None:
            part, _ = part.split(self.end)
        return part


async def read_block_page(connection: Any, after: pb.RollupKey | None, limit: int) -> list[RollupRow]:
    """The next rows of a load in the order of blocks, within a snapshot; none: it is through."""
    generation = -1 if after is None else -2 - after.generation
    for row in await connection.fetch(_GENERATIONS, generation):
        start = _LOWEST
        if after is not None and row["generation"] == generation + 1:
            start = hash_of(after.video_id.encode())
        else:
            after = None
        async for each in _ranges(connection, row["generation"], start, max(limit // _BLOCK_CELLS, 1)):
            found = await connection.fetch(_READ, each.generation, each.start, each.end)
            rows = await asyncio.to_thread(_rows_after, [body for (body,) in found], each, after)
            if rows:
                return rows[:limit]
    return []


async def read_changed_cells(connection: Any, since: Since) -> AsyncIterator[list[RollupRow]]:
    """Rows for all keys in blocks that were written since a watermark, within a snapshot."""
    for row in await connection.fetch(_GENERATIONS, -1):
        async for each in _ranges(connection, row["generation"], _LOWEST, _RANGE_BLOCKS):
            arguments = (each.generation, each.start, each.end, *since)
            if await connection.fetchval(_HAS_CHANGED, *arguments):
                found = await connection.fetch(_READ_CHANGED, *arguments)
                yield await asyncio.to_thread(_changed_rows, found, each)


async def _ranges(connection: Any, generation: int, start: int, blocks: int) -> AsyncIterator[Range]:
    """Ranges one after the other, in which no run has many more blocks than so many."""
    while True:
        end = await connection.fetchval(_BOUND, generation, start, blocks)
        yield Range(generation, start, end)
        if end is None:
            return
        start = end


def _rows_after(bodies: Sequence[bytes], each: Range, after: pb.RollupKey | None) -> list[RollupRow]:
    rows = _rows_of(_merge(bodies, each), each.generation)
    if after is None:
        return rows
    last = _place_of(after.video_id, after.event_type, after.minute)
    return [row for row in rows if _place_of(row.video_id, row.event_type, row.minute) > last]


def _changed_rows(found: Sequence[Any], each: Range) -> list[RollupRow]:
    changed = _merge([body for body, is_changed in found if is_changed], each)
    keys = {(row.video_id, row.event_type, row.minute) for row in _rows_of(changed, each.generation)}
    rows = _rows_of(_merge([body for body, _ in found], each), each.generation)
    return [row for row in rows if (row.video_id, row.event_type, row.minute) in keys]


def _merge(bodies: Sequence[bytes], each: Range) -> Run:
    return merge([part for body in bodies if (part := each.cut(body)) is not None])


def _place_of(video_id: str, event_type: str, minute: int) -> tuple[int, bytes, bytes, int]:
    """By which blocks are in order."""
    video = video_id.encode()
    return hash_of(video), video, event_type.encode(), minute


def _rows_of(run: Run, generation: int) -> list[RollupRow]:
    cells = run.cells
    videos, types = [each.decode() for each in run.videos], [each.decode() for each in run.types]
    series, shift = cells.series.tolist(), int(TYPE_BITS)
    rows = []
    columns: Sequence[list[Any]] = ()
    if cells.values is not None:
        columns = [column.tolist() for column in cells.values.columns()]
    for n, (each, minute, count) in enumerate(
        zip(series, cells.minute.tolist(), cells.count.tolist(), strict=True)
    ):
        told: tuple[Any, ...] = (0, 0.0, None, None, 0.0)
        if columns and columns[0][n]:
            told = tuple(column[n] for column in columns)
        rows.append(
            RollupRow(videos[each >> shift], types[each & 0xFFFFFFFF], minute, -1 - generation, count, *told)
        )
    return rows
