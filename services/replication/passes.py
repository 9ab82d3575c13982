"""The reads of a pass and a load from the owner's tables: pages, each in one snapshot together with the floor.

A pass reads what is visible in its target and not in the peer's watermark, both whole snapshots. Transaction ids find
what has changed; which version is newer is told by the version. Locations' tombstones and rows come first among the
rows of their location and transaction.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.replication.epoch import Life, check_life
from services.replication.rows import (
    LAST,
    LOCATION_ROW_KEY,
    LOCATION_TOMBSTONE_KEY,
    LocationRow,
    Place,
    Row,
    TombstoneRow,
    entry_of,
    to_micros,
)

_FLOOR = "select coalesce((select below from replication.floor where model = 'entry'), '0'::xid8)::text::int8"
_SNAPSHOT = "select pg_current_snapshot()::text"
_XMIN = "select pg_snapshot_xmin($1::text::pg_snapshot)::text::int8"

_BETWEEN = """changed >= pg_snapshot_xmin($1::text::pg_snapshot)
    and not pg_visible_in_snapshot(changed, $1::text::pg_snapshot)
    and pg_visible_in_snapshot(changed, $2::text::pg_snapshot)"""
_COUNT = f"""
select changed.location, greatest(count(*) filter (where is_entry), 1) as rows,
    (select strategy from replication.location where uuid = changed.location) as strategy
from (
    select location, true as is_entry from replication.entry where {_BETWEEN}
    union all select location, model = 'entry' from replication.tombstone where {_BETWEEN}
    union all select uuid, false from replication.location where {_BETWEEN}
) as changed group by changed.location order by changed.location"""

_AFTER = "(changed, location, uuid) > ($3::text::xid8, $4::uuid, $5::uuid)"
_PAGE_ENTRIES = f"""
select uuid, location, parent, kind, name, size_bytes, modified_at, fingerprint, details, version,
    changed::text::int8 as xid
from replication.entry
where {_BETWEEN} and {_AFTER} and location <> all($6::uuid[])
order by changed, location, uuid limit $7"""
_PAGE_TOMBSTONES = f"""
select model, key, location, version, changed::text::int8 as xid from replication.tombstone
where {_BETWEEN}
    and (changed, location, case model when 'entry' then key else '{LOCATION_TOMBSTONE_KEY}'::uuid end)
        > ($3::text::xid8, $4::uuid, $5::uuid)
    and (model = 'location' or location <> all($6::uuid[]))
order by changed, location, case model when 'entry' then key else '{LOCATION_TOMBSTONE_KEY}'::uuid end limit $7"""
_PAGE_LOCATIONS = f"""
select uuid, kind, origin, entry_count, indexed_at, version, changed::text::int8 as xid from replication.location
where {_BETWEEN} and (changed, uuid, '{LOCATION_ROW_KEY}'::uuid) > ($3::text::xid8, $4::uuid, $5::uuid)
    and $6::uuid[] is not null
order by changed, uuid limit $7"""

_NOT_LOADED = "not pg_visible_in_snapshot(changed, $2::text::pg_snapshot)"
_LOAD_ENTRIES = f"""
select uuid, location, parent, kind, name, size_bytes, modified_at, fingerprint, details, version
from replication.entry
where location = $1 and uuid > $3 and ($2::text is null or {_NOT_LOADED}) order by uuid limit $4"""
_LOAD_TOMBSTONES = f"""
select model, key, location, version from replication.tombstone
where model = 'entry' and location = $1 and key > $3 and {_NOT_LOADED} order by key limit $4"""
_LOAD_COUNT = f"""
select (select count(*) from replication.entry where location = $1 and ($2::text is null or {_NOT_LOADED}))
    + (select count(*) from replication.tombstone
        where model = 'entry' and location = $1 and $2::text is not null and {_NOT_LOADED})"""
_SIZES = "select entry_count, indexed_at from replication.location where uuid = $1"


class BelowFloor(Exception):
    """Tombstones that the reader has not seen may have been pruned: it needs a snapshot, or a load that replaces."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A location, how many of its rows a pass finds, and how they are forced to travel."""

    location: uuid.UUID
    rows: int
    forced: str | None


@dataclass(frozen=True, slots=True)
class Plan:
    """A pass that is about to begin."""

    target: str
    changed: Sequence[Changed]


@dataclass(frozen=True, slots=True)
class Placed:
    """A row and its place."""

    place: Place
    row: Row


async def plan_pass(pool: Any, life: Life, watermark: str, target: str | None = None) -> Plan:
    """What a pass from a watermark would find now, or up to a target that was set before.

    Raises BelowFloor, PeerMismatch.
    """
    async with (
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        await check_life(connection, life, *filter(None, (watermark, target)))
        await _check_floor(connection, watermark)
        target = target or await connection.fetchval(_SNAPSHOT)
        rows = await connection.fetch(_COUNT, watermark, target)
    return Plan(target, [Changed(row["location"], row["rows"], row["strategy"]) for row in rows])


async def read_page(
    pool: Any,
    life: Life,
    watermark: str,
    target: str,
    after: Place,
    left_out: Sequence[uuid.UUID],
    limit: int,
) -> list[Placed]:
    """The next rows of a pass, at most `limit`; none: it is through. Raises BelowFloor, PeerMismatch.

    Of the locations in `left_out` only their own rows and tombstones are read, not those of their entries.
    """
    arguments = (
        watermark,
        target,
        str(after.changed),
        after.location,
        after.key,
        list(left_out),
        limit,
    )
    async with (
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        await check_life(connection, life, watermark, target)
        await _check_floor(connection, watermark)
        entries = await connection.fetch(_PAGE_ENTRIES, *arguments)
        tombstones = await connection.fetch(_PAGE_TOMBSTONES, *arguments)
        locations = await connection.fetch(_PAGE_LOCATIONS, *arguments)
    found = [Placed(Place(row["xid"], row["location"], row["uuid"]), entry_of(row)) for row in entries]
    found += [_placed_tombstone(row) for row in tombstones]
    found += [Placed(Place(row["xid"], row["uuid"], LOCATION_ROW_KEY), location_of(row)) for row in locations]
    found.sort(key=lambda placed: (placed.place.changed, placed.place.location, placed.place.key))
    return found[:limit]


async def read_load_page(
    pool: Any, life: Life, location: uuid.UUID, loaded_to: str | None, after: uuid.UUID, limit: int
) -> tuple[list[Row], uuid.UUID]:
    """The next rows of a load, by key, and the key up to which they are complete.

    Raises BelowFloor, PeerMismatch. The last key of all: the load is through. `loaded_to` None: every row, and no
    tombstones.
    """
    async with (
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        await check_life(connection, life, *filter(None, (loaded_to,)))
        if loaded_to is not None:
            await _check_floor(connection, loaded_to)
        entries = await connection.fetch(_LOAD_ENTRIES, location, loaded_to, after, limit)
        tombstones = (
            []
            if loaded_to is None
            else await connection.fetch(_LOAD_TOMBSTONES, location, loaded_to, after, limit)
        )
    keyed: list[tuple[uuid.UUID, Row]] = [(row["uuid"], entry_of(row)) for row in entries]
    keyed += [(row["key"], TombstoneRow(row["key"], location, row["version"])) for row in tombstones]
    keyed.sort(key=lambda each: each[0])
    is_through = len(keyed) < limit
    keyed = keyed[:limit]
    return [row for _, row in keyed], LAST if is_through else keyed[-1][0]


async def count_load(pool: Any, life: Life, location: uuid.UUID, loaded_to: str | None) -> tuple[int, str]:
    """How many rows a load has to bring, and the snapshot in which they were counted.

    Raises BelowFloor, PeerMismatch.
    """
    async with (
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        await check_life(connection, life, *filter(None, (loaded_to,)))
        if loaded_to is not None:
            await _check_floor(connection, loaded_to)
        rows = await connection.fetchval(_LOAD_COUNT, location, loaded_to)
        return int(rows), str(await connection.fetchval(_SNAPSHOT))


async def read_sizes(pool: Any, location: uuid.UUID) -> tuple[int, int] | None:
    """How many entries a location has by its own account, and when it was indexed; None: it is gone."""
    row = await pool.fetchrow(_SIZES, location)
    return None if row is None else (row["entry_count"], to_micros(row["indexed_at"]))


async def _check_floor(connection: Any, watermark: str) -> None:
    """Raise BelowFloor unless every tombstone that may be pruned is visible in the watermark."""
    below = await connection.fetchval(_FLOOR)
    if below > await connection.fetchval(_XMIN, watermark):
        raise BelowFloor


def location_of(row: Any) -> LocationRow:
    """A location from the columns of a database row."""
    return LocationRow(
        row["uuid"],
        row["kind"],
        row["origin"],
        row["entry_count"],
        to_micros(row["indexed_at"]),
        row["version"],
    )


def _placed_tombstone(row: Any) -> Placed:
    is_of_location = row["model"] == "location"
    key = None if is_of_location else row["key"]
    return Placed(
        Place(row["xid"], row["location"], key or LOCATION_TOMBSTONE_KEY),
        TombstoneRow(key, row["location"], row["version"]),
    )
