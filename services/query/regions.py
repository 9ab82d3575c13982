"""The counts of other regions, which replication keeps beside this region's own.

A region's part is the copy that its watermark names, of one snapshot of its owner, and never a mixture. Parts are sums
over events that no other region counts, so the whole is the sum of the parts.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from libs.domain.cells import Cell
from services.query.question import Question, Size, TooHeavy
from services.query.warm import Reading, cell_of
from tally.contract.errors import RegionStale

_PARTS = """
with region as materialized (
    select region.device, region.name, watermark.copy,
        (extract(epoch from watermark.as_of) * 1000000)::bigint as as_of_us,
        coalesce(lane.lease_until > clock_timestamp() and lane.problem = '', false) as is_reachable
    from replication.region
        left join replication.watermark on watermark.device = region.device and watermark.model = 'rollup'
        left join replication.lane on lane.device = region.device and lane.model = 'rollup'
    -- one without an address is what this region was before it got a new id: nothing ever comes from it
    where not region.is_own and (region.address <> '' or watermark.device is not null)
), cell as materialized (
    select device, count, value_count, sum, min, max, m2
    from replication.received_rollup join region using (device, copy)
    where video_id = $1 and event_type = $2 and minute >= $3 and minute < $4
    limit $5::bigint + 1
), total as (
    select device, sum(count)::bigint as count, sum(value_count)::bigint as value_count, sum(sum) as sum,
        min(min) as min, max(max) as max
    from cell group by device
), spread as (
    select device, sum(cell.m2 + cell.value_count
        * counting.square_of(counting.mean_of(cell.sum, cell.value_count)
            - counting.mean_of(total.sum, total.value_count))) as m2
    from cell join total using (device) where cell.value_count > 0 group by device
)
select region.device, name, as_of_us, is_reachable, coalesce(count, 0) as count,
    coalesce(value_count, 0) as value_count, coalesce(sum, 0) as sum,
    min, max, coalesce(m2, 0) as m2, (select count(*) > $5 from cell) as is_too_heavy
from region left join total using (device) left join spread using (device)
order by name, device"""
_HOME = "select device, name from replication.region where is_own"


@dataclass(frozen=True, slots=True)
class Part:
    """The part of one region. `reading` None: none of its counts are here yet."""

    device: uuid.UUID
    name: str
    is_home: bool
    reading: Reading | None
    is_reachable: bool
    is_strong: bool = False


@dataclass(frozen=True, slots=True)
class World:
    """The parts of all regions; this one is the first."""

    parts: Sequence[Part]

    @property
    def reading(self) -> Reading:
        """The sum of the parts, as of the earliest of them."""
        there = [part.reading for part in self.parts if part.reading is not None]
        cell = Cell()
        for each in there:
            cell = cell.merge(each.cell)
        return Reading(cell, min(each.as_of_us for each in there))

    @property
    def is_incomplete(self) -> bool:
        """Whether counts of some region are not here."""
        return any(part.reading is None for part in self.parts)

    def check_staleness(self, most_us: int, now_us: int) -> None:
        """Raises RegionStale for a part that is older."""
        for part in self.parts:
            if part.reading is None:
                raise RegionStale(
                    f"none of the counts of region {part.name} ({part.device}) are here yet. Ask again later, or "
                    "without max_staleness for an incomplete sum"
                )
            age_us = now_us - part.reading.as_of_us
            if age_us > most_us:
                raise RegionStale(
                    f"the counts of region {part.name} ({part.device}) are {age_us / 1_000_000:.1f} s old, more than "
                    "max_staleness. Ask again later, or with a larger one"
                )


async def read_home(connection: Any, own: uuid.UUID) -> tuple[uuid.UUID, str]:
    """This region's id and name. Before replication has ever run here, it goes by its cluster's id."""
    row = await connection.fetchrow(_HOME)
    return (own, str(own)[:8]) if row is None else (row["device"], row["name"])


async def read_parts(connection: Any, question: Question, size: Size) -> list[Part]:
    """The parts of the other regions, in one snapshot. Raises TooHeavy."""
    rows = await connection.fetch(_PARTS, *question.arguments(), size.cells)
    if any(row["is_too_heavy"] for row in rows):
        raise TooHeavy
    return [
        Part(
            row["device"],
            row["name"],
            False,
            None if row["as_of_us"] is None else Reading(cell_of(row), row["as_of_us"]),
            row["is_reachable"],
        )
        for row in rows
    ]
