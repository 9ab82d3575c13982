"""The rollups in Postgres, and how far they reach."""

import asyncio
from dataclasses import dataclass
from typing import Any

from libs.domain.cells import Cell
from services.query.generations import KNOWN, spans_of, write
from services.query.question import Question, Size, TooHeavy
from services.query.spans import Span
from services.query.standby import replayed_until_us
from services.query.unsettled import JOURNAL_SINCE, Unsettled
from tally.contract.errors import Unavailable

# `{generations}`: those to look into. In each of their runs the video may be in the blocks that begin with its hash,
# and in the last one that begins before. Postgres looks for the hash in the body, and sends no block without it. Of the
# blocks that a video fills, each has 120 cells or more; beside them each run may have one with few of its cells.
BLOCK = """
block as materialized (
    select generation, body from counting.rollup_run as run cross join lateral (
        (select cells, body from counting.rollup_block as block
            where block.generation in ({generations}) and block.generation = run.generation
                and block.run_id = run.run_id and first = $6)
        union all
        (select cells, body from counting.rollup_block as block
            where block.generation in ({generations}) and block.generation = run.generation
                and block.run_id = run.run_id and first < $6
            order by first desc, number desc limit 1)
    ) as near
    where generation in ({generations})
        and position(int8send($6::bigint) in substring(body from 17 for 8 * cells)) > 0
    limit $5::bigint / 120 + 65
), blocks as (
    select array(select body from block) as bodies, array(select generation from block) as generations,
        (select count(*) from block) > $5 / 120 + 64 as are_too_many
)"""

# The rows that were written before there were blocks.
# M2 of many cells by the formula of Chan, Golub and LeVeque (1979), with the common mean. In the order of the primary
# key, so that a read which is too heavy ends after `limit` rows of the index.
CELL = """
cell as materialized (
    select count, value_count, sum, min, max, m2 from counting.rollup_row
    where video_id = $1 and event_type = $2 and minute >= $3 and minute < $4
    order by minute limit $5::bigint + 1
), total as (
    select coalesce(sum(count), 0)::bigint as count, coalesce(sum(value_count), 0)::bigint as value_count,
        coalesce(sum(sum), 0) as sum, min(min) as min, max(max) as max, count(*) > $5 as is_too_heavy
    from cell
), spread as (
    select coalesce(sum(cell.m2 + cell.value_count * counting.square_of(
        counting.mean_of(cell.sum, cell.value_count) - counting.mean_of(total.sum, total.value_count))), 0) as m2
    from cell, total where cell.value_count > 0 and is_too_heavy is not true
)"""

# As of: nothing was journaled before it that the answer lacks. What a log lacks was journaled in the order of seq, so
# none of it before the first; and that one neither before it was received, nor before the log was opened. The times
# of receipt of later ones do not count: an entry out of a spool may have been received hours before it got its place.
# `now()` is before the snapshot, and what was journaled after that cannot be seen in it.
_READ = f"""
with {CELL}, {BLOCK}, {KNOWN}
select total.*, m2, known.*, bodies, generations, are_too_many, {JOURNAL_SINCE}, (extract(epoch from least(now(), (
    select min(greatest(received_at, opened_at))
    from counting.log join counting.checkpoint using (log_id) cross join lateral (
        select received_at from counting.journal
        where journal.log_id = log.log_id and seq > applied_seq and request_id >= opening_floor
            and request_id >= {{since}}
        order by seq limit 1
    ) as first_unapplied
    where state <> 'settled'
))) * 1000000)::bigint as as_of_us
from total, spread, blocks, known"""
_TRIES = 4
_IN_THREAD_BLOCKS = 100
"""So many blocks take the event loop a few milliseconds; more are added up in a thread."""


@dataclass(frozen=True, slots=True)
class Reading:
    """An aggregate, and since when it may lack events: microseconds since 1970-01-01 UTC."""

    cell: Cell
    as_of_us: int


async def read_rollups(connection: Any, unsettled: Unsettled, question: Question, size: Size) -> Reading:
    """The contents of the rollups. Raises TooHeavy."""
    replayed_us = await replayed_until_us(connection)
    row = await fetch_row(connection, unsettled, _READ, question, size)
    cell = await read_cell(row, question)
    as_of_us: int = row["as_of_us"]
    return Reading(cell, as_of_us if replayed_us is None else min(as_of_us, replayed_us))


async def fetch_row(
    connection: Any, unsettled: Unsettled, statement: str, question: Question, size: Size, *more: Any
) -> Any:
    """The row of a statement with CELL, BLOCK and KNOWN; its parameters from `$8` on are `more`."""
    known, spans = unsettled.generations, question.spans
    for _ in range(_TRIES):
        named = known.name(spans)
        [row] = await unsettled.fetch(
            connection,
            statement.replace("{generations}", write(named)),
            *question.arguments(),
            size.cells,
            question.hash,
            spans.edge_hours,
            *more,
        )
        if known.learn(spans, row, named):
            return row
    raise Unavailable("generations were made and rolled up during each of several reads; ask again")


async def read_cell(row: Any, question: Question) -> Cell:
    """What the rollups hold, in a row of `fetch_row`. Raises TooHeavy, and UnknownVersion."""
    if row["is_too_heavy"] or row["are_too_many"]:
        raise TooHeavy
    if len(row["bodies"]) > _IN_THREAD_BLOCKS:
        return cell_of(row).merge(await asyncio.to_thread(_find_cell, row, question))
    return cell_of(row).merge(_find_cell(row, question))


def _find_cell(row: Any, question: Question) -> Cell:
    """What the blocks say, each generation of its part of the range."""
    spans = question.spans
    bodies: dict[Span, list[bytes]] = {}
    for generation, body in zip(row["generations"], row["bodies"], strict=True):
        for span in spans_of(generation, row, spans):
            bodies.setdefault(span, []).append(body)
    cell = Cell()
    for span, some in bodies.items():
        cell = cell.merge(question.find_cell(some, span))
    return cell


def cell_of(row: Any) -> Cell:
    """The cell in a row with its columns."""
    return Cell(row["count"], row["value_count"], row["sum"], row["min"], row["max"], row["m2"])
