"""Proof that both ends are equal: per location the count and the sum of 128-bit row hashes, compared.

What differs is late, and not wrong, while the owner has changes of that location that the watermark here lacks.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from services.replication.hashing import Sums, sums_of

_HASHED = "replication.entry_hash(uuid, location, parent, kind, name, size_bytes, modified_at, fingerprint, details)"
_SUMS = f"""
select location, count(*) as rows, coalesce(sum(replication.upper_half(hash)), 0) as high,
    coalesce(sum(replication.lower_half(hash)), 0) as low
from (select location, {_HASHED} as hash from {{table}}) as hashed group by location"""
_OWN_SUMS = _SUMS.format(table="replication.entry where location = any($1::uuid[])")
_RECEIVED_SUMS = _SUMS.format(
    table="replication.received_entry where device = $1 and ($2::uuid is null or location = $2)"
)
_CHANGED = """
select location, count(*) as rows from (
    select location from replication.entry
    where location = any($1::uuid[]) and not pg_visible_in_snapshot(changed, $2::text::pg_snapshot)
    union all select location from replication.tombstone
    where location = any($1::uuid[]) and not pg_visible_in_snapshot(changed, $2::text::pg_snapshot)
) as changed group by location"""
_WATERMARK = "select snapshot::text from replication.watermark where device = $1 and model = 'entry'"
_LOCATIONS = """
select received.uuid, coalesce(peer_state.state, 'current') as state
from replication.received_location as received
    left join replication.peer_state on peer_state.device = received.device and peer_state.location = received.uuid
where received.device = $1 and ($2::uuid is null or received.uuid = $2)
order by received.uuid"""


class Verdict(StrEnum):
    """How a location compares."""

    EQUAL = "equal"
    DIFFERENT = "different"
    LATE = "late"
    BEHIND = "behind"


@dataclass(frozen=True, slots=True)
class Here:
    """What is here of a region, all of one snapshot. `sums` and `states` by location."""

    watermark: str
    sums: dict[uuid.UUID, Sums]
    states: dict[uuid.UUID, str]


@dataclass(frozen=True, slots=True)
class There:
    """What the owner has of a location, and how many of its rows the watermark that was named lacks."""

    sums: Sums
    changed: int


async def sum_received(pool: Any, device: uuid.UUID, location: uuid.UUID | None) -> Here:
    """Count and hash what is here of a region, or of one location."""
    async with (
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        watermark = await connection.fetchval(_WATERMARK, device)
        locations = await connection.fetch(_LOCATIONS, device, location)
        rows = await connection.fetch(_RECEIVED_SUMS, device, location)
    return Here(watermark or "", _by_location(rows), {row["uuid"]: row["state"] for row in locations})


async def sum_own(pool: Any, locations: Sequence[uuid.UUID], watermark: str) -> dict[uuid.UUID, There]:
    """Count and hash locations of this region."""
    async with (
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        rows = await connection.fetch(_OWN_SUMS, list(locations))
        changed = (
            {
                row["location"]: row["rows"]
                for row in await connection.fetch(_CHANGED, list(locations), watermark)
            }
            if watermark
            else {}
        )
    sums = _by_location(rows)
    return {location: There(sums.get(location, Sums()), changed.get(location, 0)) for location in locations}


def judge(here: Sums, there: There, state: str) -> Verdict:
    """The verdict on a location; undecided if it is behind or loading."""
    if here == there.sums:
        return Verdict.EQUAL
    if state != "current":
        return Verdict.BEHIND
    return Verdict.LATE if there.changed else Verdict.DIFFERENT


def _by_location(rows: Sequence[Any]) -> dict[uuid.UUID, Sums]:
    return {row["location"]: sums_of(row["rows"], row["high"], row["low"]) for row in rows}
