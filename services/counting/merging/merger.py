"""Merging of runs: eight of one level become one of the next, so that a read has few runs to visit (ADR 27).

A merge is a row of short transactions. The first chooses the runs and makes their target. Each of the others moves the
cells below a bound, by the hash of their video, from the sources to the target, so that at any instant each cell is in
one run. Any shard may do any step for any merge, or be cut off in the middle of it.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from libs.domain.blocks import Block, decode, decode_all, encode
from libs.domain.grains import Grain, grain_of
from libs.domain.runs import Part, merge
from libs.runtime.loop import Loop
from libs.stores.postgres import AWAY
from libs.telemetry import catalogue
from libs.telemetry.setup import Telemetry
from services.counting.flush.runs import insert_blocks, make_run_id
from services.counting.flush.waiting_runs import WaitingRuns
from services.counting.metrics import Metrics
from services.counting.recovery.stride import Stride
from services.counting.settings import FlushSettings, RecoverySettings

FAN_IN = 8
"""So many runs of a level become one of the next."""
_IDLE_SECONDS, _BUSY_SECONDS = 30.0, 1.0
"""The pauses between looks: each flush of the shard ends the first, and the other is for merges that others are at."""
_TURN_SECONDS = 60.0
"""A merge of large runs may take hours; after this time a turn is over, and the next one goes on with it."""
_DEADLINE_SECONDS = 600.0
_FEWEST_BLOCKS, _MORE = 4, 4

# Sealing changes the row, and so waits for merges; one that waited for sealing finds no row. The generations below 0
# are hours, days and totals: they count as sealed, since no flush writes them, and are merged all the same.
_IS_MERGED = "(sealed_at is null or generation < 0)"
_HOLD_GENERATION = f"""
select generation from counting.generation where generation = $1 and {_IS_MERGED} for share"""
_CROWDED = f"""
select generation, level from counting.rollup_run join counting.generation using (generation)
where is_complete and into_run is null and {_IS_MERGED}
group by generation, level having count(*) >= $1 order by level limit 1"""
_CHOOSE = """
select run_id from counting.rollup_run where generation = $1 and level = $2 and is_complete and into_run is null
order by run_id limit $3 for update skip locked"""
_MAKE_TARGET = """
insert into counting.rollup_run (run_id, generation, level, is_complete) values ($1, $2, $3, false)"""
_SET_TARGET = "update counting.rollup_run set into_run = $1 where run_id = any($2)"
# All that a merger needs to know when there is nothing to do.
_LOOK = f"""
select coalesce(sum(runs), 0)::bigint as runs, coalesce(sum(sources + open / $1 * $1), 0)::bigint as waiting,
    coalesce(bool_or(is_begun), false) as is_begun
from (
    select count(*) as runs, bool_or(not is_complete and {_IS_MERGED}) as is_begun,
        count(*) filter (where into_run is not null and {_IS_MERGED}) as sources,
        count(*) filter (where is_complete and into_run is null and {_IS_MERGED}) as open
    from counting.rollup_run join counting.generation using (generation) group by generation, level
) as level"""
_TARGETS = f"""
select run_id, generation from counting.rollup_run join counting.generation using (generation)
where not is_complete and {_IS_MERGED}
order by level, run_id"""
# The holder of the target has the merge: no other process locks its sources.
_HOLD_TARGET = """
select generation from counting.rollup_run where run_id = $1 and not is_complete for update skip locked"""
_SOURCES = "select run_id from counting.rollup_run where into_run = $1 order by run_id for update"
# In each source, the hash at which the block after so many begins: all cells below are in those before.
_BOUND = """
select min(bound.first) as bound, count(bound.first) as bounded
from unnest($2::bigint[]) as source (run_id) left join lateral (
    select first from counting.rollup_block as block
    where block.generation = $1 and block.run_id = source.run_id
    order by first, number offset $3 limit 1
) as bound on true"""
_TAKE = """
delete from counting.rollup_block where generation = $1 and run_id = any($2) and ($3::bigint is null or first < $3)
returning run_id, first, number, cells, body"""
_PUT_BACK = """
insert into counting.rollup_block (generation, run_id, first, number, cells, events, body)
values ($1, $2, $3, $4, $5, $6, $7)"""
_DROP_EMPTY = """
delete from counting.rollup_run as run where run_id = any($2) and not exists (
    select from counting.rollup_block as block where block.generation = $1 and block.run_id = run.run_id)"""
_COMPLETE = """
update counting.rollup_run set is_complete = true
where run_id = $1 and not exists (select from counting.rollup_run as source where source.into_run = $1)
returning run_id"""


@dataclass(frozen=True, slots=True)
class Taken:
    """Blocks that were taken out of the sources, laid out anew."""

    moved: Sequence[Block]
    """for the target"""
    rest: Sequence[tuple[int, int, Block]]
    """for a source: its run, the number of the block, and the block"""
    cells: int


class Merger:
    """Merges the runs of all shards, over a pool of connections."""

    def __init__(
        self,
        pool: Any,
        flush: FlushSettings,
        recovery: RecoverySettings,
        metrics: Metrics,
        telemetry: Telemetry,
        runs: WaitingRuns | None = None,
    ) -> None:
        """`runs`: those of the shard, whose flushes end the pauses of `loop`."""
        self._pool = pool
        self._statement_cells = flush.statement_cells
        self._metrics = metrics
        longest_seconds = min(recovery.statement_timeout_seconds, recovery.transaction_timeout_seconds)
        self._stride = Stride(flush.merge_cells, longest_seconds)
        self._runs = 0
        catalogue.observe(telemetry.meter, catalogue.ROLLUP_RUNS, lambda: self._runs)
        self.loop = Loop(
            "merging",
            self.merge_all,
            interval_seconds=_IDLE_SECONDS,
            retry_seconds=_BUSY_SECONDS,
            deadline_seconds=_DEADLINE_SECONDS,
            telemetry=telemetry,
        )
        self._waiting = runs or WaitingRuns()
        self._waiting.wake_merger = self.loop.wake

    async def merge_all(self) -> float | None:
        """Merge until no level of an open generation has so many runs, or for a minute. Raises what is in AWAY.

        Returns the seconds until the next turn as long as something is left, by this process or others, else None.
        """
        end = time.monotonic() + _TURN_SECONDS
        while await self._look():
            if time.monotonic() >= end:
                return 0.0
            if not await self.step():
                return _BUSY_SECONDS
        return None

    async def _look(self) -> bool:
        """Whether there is anything to merge; counts the runs, and those that wait."""
        self._runs, self._waiting.count, is_begun = await self._pool.fetchrow(_LOOK, FAN_IN)
        return bool(is_begun or self._waiting.count)

    async def step(self) -> bool:
        """Begin the merges that are due, and move one piece of the smallest one; false when nothing is left to do.

        So a merge of large runs, which may take hours, does not hold up those of the runs that are flushed meanwhile.
        """
        while await self.choose():
            pass
        for run_id, generation in await self._pool.fetch(_TARGETS):
            if await self.move_piece(generation, run_id):
                return True
        return await self.choose()  # of a merge that is complete, another may begin

    async def choose(self) -> bool:
        """Begin a merge; false when there is none to begin."""
        async with self._pool.acquire() as connection:
            crowded = await connection.fetchrow(_CROWDED, FAN_IN)
            if crowded is None:
                return False
            generation, level = crowded
            async with connection.transaction():
                if await connection.fetchval(_HOLD_GENERATION, generation) is None:
                    return False
                rows = await connection.fetch(_CHOOSE, generation, level, FAN_IN)
                if len(rows) < FAN_IN:  # somebody else has taken some of them meanwhile
                    return False
                target = make_run_id()
                await connection.execute(_MAKE_TARGET, target, generation, level + 1)
                await connection.execute(_SET_TARGET, target, [row["run_id"] for row in rows])
        return True

    async def move_piece(self, generation: int, target: int) -> bool:
        """Move the next cells to a target; false when it is complete, sealed, or somebody else moves them."""
        attempted, began = self._stride.events, time.monotonic()
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                goes_on = await self._move_piece(connection, generation, target, attempted)
        except AWAY:
            self._stride.note_failure(attempted)  # perhaps it was too much for the time there is
            raise
        self._stride.note_success(time.monotonic() - began)
        return goes_on

    async def _move_piece(self, connection: Any, generation: int, target: int, most_cells: int) -> bool:
        if await connection.fetchval(_HOLD_GENERATION, generation) is None:
            return False
        if await connection.fetchval(_HOLD_TARGET, target) is None:
            return False
        sources = [row["run_id"] for row in await connection.fetch(_SOURCES, target)]
        if sources:
            rows, bound = await self._take(connection, generation, sources, most_cells)
            taken = await asyncio.to_thread(_lay_out, rows, bound, grain_of(generation))
            for run_id, number, block in taken.rest:
                await connection.execute(
                    _PUT_BACK, generation, run_id, block.first, number, block.cells, block.events, block.body
                )
            await insert_blocks(connection, generation, target, taken.moved, self._statement_cells)
            await connection.execute(_DROP_EMPTY, generation, sources)
            self._metrics.merge_cells.add(taken.cells)
        return await connection.fetchval(_COMPLETE, target) is None

    async def _take(
        self, connection: Any, generation: int, sources: Sequence[int], most_cells: int
    ) -> tuple[list[Any], int | None]:
        """Take blocks out of the sources: all with cells below the bound. None: it was the rest of them."""
        blocks = max(most_cells // 240 // len(sources), _FEWEST_BLOCKS)
        while True:
            bound, bounded = await connection.fetchrow(_BOUND, generation, sources, blocks)
            rows = await connection.fetch(_TAKE, generation, sources, bound)
            if rows or not bounded:
                return rows, bound
            blocks *= _MORE  # one video fills so many blocks of a source, and comes before all others


def _lay_out(rows: Sequence[Any], bound: int | None, grain: Grain) -> Taken:
    """What is moved and what stays of blocks that were taken. In a thread of its own, beside the event loop."""
    across: set[tuple[int, int, int]] = set()
    if bound is not None:  # in each run the last block may be across it
        across = set({row["run_id"]: _place_of(row) for row in sorted(rows, key=_place_of)}.values())
    moved: list[Part] = [decode_all([row["body"] for row in rows if _place_of(row) not in across])]
    rest = []
    for row in rows:
        if bound is None or _place_of(row) not in across:
            continue
        below, others = decode(row["body"]).split(bound)
        if below is not None:
            moved.append(below)
        if others is not None:
            [block] = encode(merge([others]), grain)
            rest.append((row["run_id"], row["number"], block))
    return Taken(encode(merge(moved), grain), rest, sum(row["cells"] for row in rows))


def _place_of(row: Any) -> tuple[int, int, int]:
    return row["run_id"], row["first"], row["number"]
