"""The rollups in Postgres, and how far they reach."""

from dataclasses import dataclass
from typing import Any

from libs.domain.cells import Cell
from libs.domain.minutes import LAST_MINUTE, MinuteRange

# M2 of many cells by the formula of Chan, Golub and LeVeque (1979), with the common mean.
CELL = """
cell as materialized (
    select count, value_count, sum, min, max, m2 from rollup_minute
    where video_id = $1 and event_type = $2 and minute >= $3 and minute < $4
), total as (
    select coalesce(sum(count), 0)::bigint as count, coalesce(sum(value_count), 0)::bigint as value_count,
        coalesce(sum(sum), 0) as sum, min(min) as min, max(max) as max
    from cell
), spread as (
    select coalesce(sum(cell.m2 + cell.value_count
        * square_of(mean_of(cell.sum, cell.value_count) - mean_of(total.sum, total.value_count))), 0) as m2
    from cell, total where cell.value_count > 0
)"""

# As of: nothing was journaled before it that the answer lacks. What a log lacks was journaled in the order of seq, so
# none of it before the first; and that one neither before it was received, nor before the log was opened. The receipts
# of those behind it say nothing: what comes out of a spool may have been received hours before its place in the log.
# `now()` is before the snapshot, and what was journaled after that cannot be seen in it.
_READ = f"""
with {CELL}
select total.*, m2, (extract(epoch from least(now(), (
    select min(greatest(received_at, opened_at))
    from log join checkpoint using (log_id) cross join lateral (
        select received_at from journal
        where journal.log_id = log.log_id and seq > applied_seq and request_id >= opening_floor
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


async def read_rollups(pool: Any, video_id: str, event_type: str, minutes: MinuteRange) -> Reading:
    """What the rollups hold of one video and event type."""
    row = await pool.fetchrow(_READ, video_id, event_type, *bounds(minutes))
    return Reading(cell_of(row), row["as_of_us"])


def bounds(minutes: MinuteRange) -> tuple[int, int]:
    """The range as two minutes that the column can hold."""
    return minutes.start or 0, LAST_MINUTE if minutes.end is None else minutes.end


def cell_of(row: Any) -> Cell:
    """The cell in a row with its columns."""
    return Cell(row["count"], row["value_count"], row["sum"], row["min"], row["max"], row["m2"])
