"""Locations and entries for readers: this region's own, and those that are here of others."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.replication.rows import NIL, EntryRow, entry_of

_LOCATIONS = """
select device, uuid, kind, origin, entry_count, indexed_at, version, state, is_own from (
    select region.device, location.uuid, kind, origin, entry_count, indexed_at, version, 'own' as state, true as is_own
    from replication.location, replication.region where region.is_own
    union all
    select received.device, received.uuid, kind, origin,
        case peer_state.state when 'behind' then peer_state.entry_count else received.entry_count end,
        received.indexed_at, version, coalesce(peer_state.state, 'current'), false
    from replication.received_location as received
        left join replication.peer_state
            on peer_state.device = received.device and peer_state.location = received.uuid
) as known
where {condition}
order by device, uuid limit $1"""
_PAGE = _LOCATIONS.format(
    condition="($2::uuid is null or device = $2) and (device, uuid) > ($3::uuid, $4::uuid)"
)
_ONE = _LOCATIONS.format(condition="uuid = $2")
_COLUMNS = "uuid, location, parent, kind, name, size_bytes, modified_at, fingerprint, details, version"
_OWN_ENTRIES = f"""
select {_COLUMNS} from replication.entry where location = $1 and uuid > $2 order by uuid limit $3"""
_RECEIVED_ENTRIES = f"""
select {_COLUMNS} from replication.received_entry
where device = $4 and location = $1 and uuid > $2 order by uuid limit $3"""
_COUNT = "select count(*) from replication.received_entry where device = $1 and location = $2"


@dataclass(frozen=True, slots=True)
class KnownLocation:
    """A location, and what is here of it."""

    device: uuid.UUID
    uuid: uuid.UUID
    kind: str
    origin: str
    entry_count: int
    indexed_at: datetime
    version: int
    state: str
    is_own: bool


async def list_locations(
    pool: Any, device: uuid.UUID | None, after: tuple[uuid.UUID, uuid.UUID], limit: int
) -> list[KnownLocation]:
    """Locations of a region, or of all, by device and id."""
    return [KnownLocation(*row.values()) for row in await pool.fetch(_PAGE, limit, device, *after)]


async def find_location(pool: Any, location: uuid.UUID) -> KnownLocation | None:
    """One location; None: it is not known here."""
    row = await pool.fetchrow(_ONE, 1, location)
    return None if row is None else KnownLocation(*row.values())


async def list_entries(pool: Any, location: KnownLocation, after: uuid.UUID, limit: int) -> list[EntryRow]:
    """Entries of a location, by key."""
    if location.is_own:
        rows = await pool.fetch(_OWN_ENTRIES, location.uuid, after, limit)
    else:
        rows = await pool.fetch(_RECEIVED_ENTRIES, location.uuid, after, limit, location.device)
    return [entry_of(row) for row in rows]


async def count_loaded(pool: Any, location: KnownLocation) -> int:
    """How many entries of another region's location are here."""
    count: int = await pool.fetchval(_COUNT, location.device, location.uuid)
    return count


BEGINNING = (NIL, NIL)
