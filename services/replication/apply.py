"""The receiver's tables: rows of a frame, and the cursor and the watermark that go with them."""

import uuid
from collections.abc import Sequence
from typing import Any

from services.replication.rows import MODEL, EntryRow, LocationRow, Place, Row, TombstoneRow, to_time

_PUT_ENTRIES = """
insert into replication.received_entry (
    device, uuid, location, parent, kind, name, size_bytes, modified_at, fingerprint, details, epoch, version
)
select $1, uuid, location, parent, kind, name, size_bytes, modified_at, fingerprint, details, $2, version
from unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::text[], $7::text[], $8::bigint[], $9::timestamptz[], $10::bytea[],
    $11::text[], $12::bigint[])
    as given (uuid, location, parent, kind, name, size_bytes, modified_at, fingerprint, details, version)
on conflict (device, uuid) do update set
    location = excluded.location, parent = excluded.parent, kind = excluded.kind, name = excluded.name,
    size_bytes = excluded.size_bytes, modified_at = excluded.modified_at, fingerprint = excluded.fingerprint,
    details = excluded.details, epoch = excluded.epoch, version = excluded.version
where (received_entry.epoch, received_entry.version) < (excluded.epoch, excluded.version)"""
_PUT_LOCATIONS = """
insert into replication.received_location (device, uuid, kind, origin, entry_count, indexed_at, epoch, version)
select $1, uuid, kind, origin, entry_count, indexed_at, $2, version
from unnest($3::uuid[], $4::text[], $5::text[], $6::bigint[], $7::timestamptz[], $8::bigint[])
    as given (uuid, kind, origin, entry_count, indexed_at, version)
on conflict (device, uuid) do update set
    kind = excluded.kind, origin = excluded.origin, entry_count = excluded.entry_count,
    indexed_at = excluded.indexed_at, epoch = excluded.epoch, version = excluded.version
where (received_location.epoch, received_location.version) < (excluded.epoch, excluded.version)"""
_DELETE_ENTRIES = """
delete from replication.received_entry as entry
using unnest($3::uuid[], $4::bigint[]) as gone (key, version)
where entry.device = $1 and entry.uuid = gone.key and (entry.epoch, entry.version) < ($2, gone.version)"""
_DELETE_OF_LOCATION = """
delete from replication.received_entry where device = $1 and location = $3 and (epoch, version) < ($2, $4)"""
_DELETE_LOCATION = """
delete from replication.received_location where device = $1 and uuid = $3 and (epoch, version) < ($2, $4)"""
_DELETE_ABSENT = """
delete from replication.received_entry
where device = $1 and location = $2 and uuid > $3 and uuid <= $4 and uuid <> all($5::uuid[])"""
_SET_TARGET = """
update replication.watermark set
    target = $3::text::pg_snapshot, target_as_of = $4, cursor_changed = null, cursor_location = null,
    cursor_key = null, received_rows = 0, received_high = 0, received_low = 0
where device = $1 and model = $2 and target::text is distinct from $3"""
_MOVE_CURSOR = """
update replication.watermark set
    cursor_changed = $3::text::xid8, cursor_location = $4, cursor_key = $5,
    received_rows = $6, received_high = $7, received_low = $8
where device = $1 and model = $2"""
_SET_WORD = "update replication.watermark set word = $3 where device = $1 and model = $2"
_WATERMARK_MOVES = """
update replication.watermark set
    snapshot = target, word = $3, as_of = $4, target = null, target_as_of = null, cursor_changed = null,
    cursor_location = null, cursor_key = null, received_rows = 0, received_high = 0, received_low = 0
where device = $1 and model = $2 and target::text = $5"""
_CURSOR_GOES = """
update replication.watermark set
    target = null, target_as_of = null, cursor_changed = null, cursor_location = null, cursor_key = null,
    received_rows = 0, received_high = 0, received_low = 0
where device = $1 and model = $2"""


async def apply_rows(connection: Any, device: uuid.UUID, epoch: int, rows: Sequence[Row]) -> int:
    """Write rows and tombstones of a device; how many were there already, in this version or a later one.

    A row replaces the stored one if its (epoch, version) is higher.
    """
    entries = [row for row in rows if isinstance(row, EntryRow)]
    locations = [row for row in rows if isinstance(row, LocationRow)]
    tombstones = [row for row in rows if isinstance(row, TombstoneRow)]
    written = len(tombstones)
    if entries:
        status = await connection.execute(_PUT_ENTRIES, device, epoch, *_entry_columns(entries))
        written += int(status.rpartition(" ")[2])
    if locations:
        status = await connection.execute(_PUT_LOCATIONS, device, epoch, *_location_columns(locations))
        written += int(status.rpartition(" ")[2])
    if keyed := [row for row in tombstones if row.key is not None]:
        keys, versions = [row.key for row in keyed], [row.version for row in keyed]
        await connection.execute(_DELETE_ENTRIES, device, epoch, keys, versions)
    for row in tombstones:
        if row.key is None:
            await connection.execute(_DELETE_OF_LOCATION, device, epoch, row.location, row.version)
            await connection.execute(_DELETE_LOCATION, device, epoch, row.location, row.version)
    return len(rows) - written


async def delete_absent(
    connection: Any,
    device: uuid.UUID,
    location: uuid.UUID,
    after: uuid.UUID,
    upto: uuid.UUID,
    rows: Sequence[Row],
) -> None:
    """For a load that replaces: rows in its range of keys that its batch lacks are deleted at the owner.

    The batch was read later than every frame before it, so nothing newer can be among them.
    """
    keys = [row.uuid for row in rows if isinstance(row, EntryRow)]
    await connection.execute(_DELETE_ABSENT, device, location, after, upto, keys)


async def keep_word(connection: Any, device: uuid.UUID, word: int) -> None:
    """The last word that the owner sent: it is newer than every row that is here."""
    await connection.execute(_SET_WORD, device, MODEL, word)


async def begin_pass(connection: Any, device: uuid.UUID, target: str, as_of: Any, word: int) -> None:
    """Begin a pass; one that continues to the same target keeps its cursor."""
    await keep_word(connection, device, word)
    await connection.execute(_SET_TARGET, device, MODEL, target, as_of)


async def move_cursor(connection: Any, device: uuid.UUID, place: Place, received: Any) -> None:
    """The rows up to a place are here."""
    await connection.execute(
        _MOVE_CURSOR,
        device,
        MODEL,
        str(place.changed),
        place.location,
        place.key,
        received.rows,
        received.high,
        received.low,
    )


async def complete_pass(connection: Any, device: uuid.UUID, watermark: str, word: int, as_of: Any) -> bool:
    """The watermark moves to the target; false: there is no such pass."""
    status: str = await connection.execute(_WATERMARK_MOVES, device, MODEL, word, as_of, watermark)
    return status == "UPDATE 1"


async def forget_pass(pool: Any, device: uuid.UUID) -> None:
    """The pass in progress starts again, from the watermark."""
    await pool.execute(_CURSOR_GOES, device, MODEL)


def _entry_columns(entries: Sequence[EntryRow]) -> list[list[Any]]:
    return [
        [each.uuid for each in entries],
        [each.location for each in entries],
        [each.parent for each in entries],
        [each.kind for each in entries],
        [each.name for each in entries],
        [each.size_bytes for each in entries],
        [to_time(each.modified_us) for each in entries],
        [each.fingerprint for each in entries],
        [each.details for each in entries],
        [each.version for each in entries],
    ]


def _location_columns(locations: Sequence[LocationRow]) -> list[list[Any]]:
    return [
        [each.uuid for each in locations],
        [each.kind for each in locations],
        [each.origin for each in locations],
        [each.entry_count for each in locations],
        [to_time(each.indexed_us) for each in locations],
        [each.version for each in locations],
    ]
