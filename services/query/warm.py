"""The rollups in Postgres, and how far they reach."""

from dataclasses import dataclass
from typing import Any

from libs.domain.cells import Cell
from services.query.question import Question, Size, TooHeavy
from services.query.standby import replayed_until_us
from services.query.unsettled import JOURNAL_SINCE, Unsettled

# M2 of many cells by the formula of Chan, Golub and LeVeque (1979), with the common mean. In the order of the primary
# key, so that a read which is too heavy ends after `limit` rows of the index.
CELL = """
cell as materialized (
    select count, value_count, sum, min, max, m2 from counting.rollup_minute
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
with {CELL}
select total.*, m2, {JOURNAL_SINCE}, (extract(epoch from least(now(), (
    select min(greatest(received_at, opened_at))
    from counting.log join counting.checkpoint using (log_id) cross join lateral (
        select received_at from counting.journal
        where journal.log_id = log.log_id and seq > applied_seq and request_id >= opening_floor
            and request_id >= {{since}}
        order by seq limit 1
    ) as first_unapplied
    where state <> 'settled'
))) * 1000000)::bigint as as_of_us
from total, spread"""


@dataclass(frozen=True, slots=True)
class Reading:
    """An aggregate, and since when it may lack events: microseconds since 1970-01-01 UTC."""

    cell: Cell
    as_of_us: int


async def read_rollups(connection: Any, unsettled: Unsettled, question: Question, size: Size) -> Reading:
    """The contents of the rollups. Raises TooHeavy."""
    replayed_us = await replayed_until_us(connection)
    [row] = await unsettled.fetch(connection, _READ, *question.arguments(), size.cells)
    if row["is_too_heavy"]:
        raise TooHeavy
    as_of_us: int = row["as_of_us"]
    return Reading(cell_of(row), as_of_us if replayed_us is None else min(as_of_us, replayed_us))


def cell_of(row: Any) -> Cell:
    """The cell in a row with its columns."""
    return Cell(row["count"], row["value_count"], row["sum"], row["min"], row["max"], row["m2"])
