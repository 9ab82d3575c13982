"""Rolling up: the minutes of a sealed generation become hours, days and totals, in pieces by video.

A piece has the videos between two hashes. Nothing changes a sealed generation, so a piece is read and added up outside
of its transaction. That is short: it moves the generation's mark `rolled_to` by compare and set, and adds one run to
each grain. So in every snapshot the grains have exactly the videos below the mark. Any shard may do any piece, be cut
off, or find that another one has done it. Two pieces of different generations have no row in common.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from libs.domain.blocks import Block, decode, encode
from libs.domain.grains import COARSE, Grain
from libs.domain.runs import Run, coarsen, merge
from libs.stores.postgres import AWAY
from services.counting.flush.runs import add_run
from services.counting.recovery.stride import Stride
from services.counting.settings import FlushSettings, RecoverySettings

_LOGGER = structlog.get_logger(__name__)

_BLOCK_CELLS, _FEWEST_BLOCKS = 240, 4
_LOWEST = -(2**63)

_SEALED = """
select generation, rolled_to from counting.generation
where generation > 0 and sealed_at is not null and rolled_at is null order by generation"""
# What the flushes and replays have added, and what there is of it.
_VERIFY = """
select (select coalesce(sum(events), 0) from counting.rollup_block where generation = $1)
        + (select coalesce(sum(count), 0) from counting.rollup_row where generation = $1) as counted,
    (select coalesce(sum(events), 0) from counting.flush_log where generation = $1)
        + (select coalesce(sum(to_event - from_event), 0) from counting.replay_log where generation = $1) as flushed"""
_MARK = """
select rolled_to, (select count(*) from counting.rollup_run as run where run.generation = generation.generation) as runs
from counting.generation where generation = $1 and sealed_at is not null and rolled_at is null"""
# In each run, the hash at which the block after so many begins: all cells below are in those before.
_BOUND = """
select min(bound.first) from counting.rollup_run as run cross join lateral (
    select first from counting.rollup_block as block
    where block.generation = $1 and block.run_id = run.run_id and first > $2
    order by first, number offset $3 limit 1
) as bound
where run.generation = $1"""
# Those that begin in the range, and in each run the last one that begins before.
_IN_RANGE = """
select body from counting.rollup_run as run cross join lateral (
    (select body from counting.rollup_block as block
        where block.generation = $1 and block.run_id = run.run_id
            and first >= $2 and ($3::bigint is null or first < $3))
    union all
    (select body from counting.rollup_block as block
        where block.generation = $1 and block.run_id = run.run_id and first < $2
        order by first desc, number desc limit 1)
) as near
where run.generation = $1"""
_MOVE = """
update counting.generation set rolled_to = coalesce($3, rolled_to), rolled_events = rolled_events + $4,
    rolled_at = case when $3::bigint is null then clock_timestamp() end
where generation = $1 and rolled_to is not distinct from $2 and rolled_at is null and sealed_at is not null
returning generation"""
_NOTE_HOURS = """
insert into counting.generation_hour (hour, generation) select hour, $1 from unnest($2::integer[]) as hour
on conflict do nothing"""


@dataclass(frozen=True, slots=True)
class Piece:
    """What some videos of a generation amount to."""

    hours: Sequence[int]
    """those that have minutes, since 1970-01-01 UTC"""
    blocks: Sequence[tuple[Grain, Sequence[Block]]]
    events: int


class RollUp:
    """Rolls up the generations of all shards, over a pool of connections."""

    def __init__(self, pool: Any, flush: FlushSettings, recovery: RecoverySettings) -> None:
        self._pool = pool
        self._statement_cells = flush.statement_cells
        longest_seconds = min(recovery.statement_timeout_seconds, recovery.transaction_timeout_seconds)
        self._stride = Stride(flush.merge_cells, longest_seconds)
        self._wrong: set[int] = set()
        """generations that were reported once"""

    async def roll_up_all(self) -> None:
        """Roll up every sealed generation. Raises what is in AWAY: a later call goes on from there.

        One whose minutes are not what was flushed is reported, and stays as it is: reads take its minutes.
        """
        for generation, rolled_to in await self._pool.fetch(_SEALED):
            if rolled_to is not None or await self._verify(generation):
                while await self.roll_piece(generation):
                    pass

    async def roll_piece(self, generation: int) -> bool:
        """Roll up the next videos of a sealed generation; false when there are none, or another process is at it."""
        attempted, began = self._stride.events, time.monotonic()
        try:
            row = await self._pool.fetchrow(_MARK, generation)
            if row is None:
                return False
            mark, runs = row
            start = _LOWEST if mark is None else mark
            blocks = max(attempted // _BLOCK_CELLS // max(runs, 1), _FEWEST_BLOCKS)
            bound: int | None = await self._pool.fetchval(_BOUND, generation, start, blocks)
            rows = await self._pool.fetch(_IN_RANGE, generation, start, bound)
            piece = await asyncio.to_thread(_add_up, [row["body"] for row in rows], start, bound)
            async with self._pool.acquire() as connection, connection.transaction():
                if await connection.fetchval(_MOVE, generation, mark, bound, piece.events) is None:
                    return False
                await connection.execute(_NOTE_HOURS, generation, piece.hours)
                for grain, coarse in piece.blocks:
                    await add_run(connection, grain.generation, coarse, self._statement_cells)
        except AWAY:
            self._stride.note_failure(attempted)  # perhaps it was too much for the time there is
            raise
        self._stride.note_success(time.monotonic() - began)
        if bound is None:
            _LOGGER.info("generation rolled up", generation=generation)
        return bound is not None

    async def _verify(self, generation: int) -> bool:
        found = await self._pool.fetchrow(_VERIFY, generation)
        if found["counted"] == found["flushed"]:
            return True
        if generation not in self._wrong:
            self._wrong.add(generation)
            _LOGGER.error(
                "generation not rolled up: its minutes are not what was flushed; its minutes are read instead",
                generation=generation,
                counted=int(found["counted"]),
                flushed=int(found["flushed"]),
            )
        return False


def _add_up(bodies: Sequence[bytes], start: int, end: int | None) -> Piece:
    """The cells of the videos from one hash to before another, by grain. In a thread, beside the event loop."""
    run = merge([part for body in bodies if (part := _cut(body, start, end)) is not None])
    hours = sorted(set((run.cells.minute // Grain.HOUR.minutes).tolist()))
    blocks = []
    for grain in COARSE:
        run = coarsen(run, grain)
        blocks.append((grain, encode(run, grain)))
    return Piece(hours, blocks, sum(block.events for block in blocks[0][1]))


def _cut(body: bytes, start: int, end: int | None) -> Run | None:
    _, part = decode(body).split(start)
    if part is not None and end is not None:
        part, _ = part.split(end)
    return part
