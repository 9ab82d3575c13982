"""Rows ↔ messages: columns that are packed, single rows as JSON, and what is refused of a peer's bytes."""

import json
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from services.replication.hashing import Sums
from services.replication.rows import NIL, EntryRow, LocationRow, Place, Row, TombstoneRow, to_time
from tally.contract.errors import DataLoss, InvalidRequest, Violation
from tally.replication.v1 import peers_pb2 as pb

MAX_UNPACKED_BYTES = 8 * 1024 * 1024
_LEAST_SAVING = 0.03
"""If compression saves less than this, data are sent uncompressed."""
_GZIP_WINDOW = 31
_UUID_BYTES = 16


@dataclass(frozen=True, slots=True)
class Packed:
    """The columns of a batch on the wire. The same bytes serve every peer."""

    codec: "pb.Codec"
    data: bytes
    unpacked_bytes: int
    checksum: int


def compress_batch(data: bytes, codecs: Sequence[int], level: int) -> Packed:
    """Pack bytes in the first codec that the receiver reads, unless that saves next to nothing."""
    checksum = zlib.crc32(data)
    if pb.CODEC_GZIP in codecs:
        packer = zlib.compressobj(level, wbits=_GZIP_WINDOW)
        packed = packer.compress(data) + packer.flush()
        if len(packed) <= (1 - _LEAST_SAVING) * len(data):
            return Packed(pb.CODEC_GZIP, packed, len(data), checksum)
    return Packed(pb.CODEC_IDENTITY, data, len(data), checksum)


def unpack(codec: int, data: bytes, unpacked_bytes: int) -> bytes:
    """The bytes of a batch or a chunk. Raises InvalidRequest, also for what would inflate to more than was stated."""
    if not 0 <= unpacked_bytes <= MAX_UNPACKED_BYTES:
        raise _invalid("unpacked_bytes", f"must be at most {MAX_UNPACKED_BYTES:,}")
    if codec in (pb.CODEC_IDENTITY, pb.CODEC_UNSPECIFIED):
        unpacked = data
    elif codec == pb.CODEC_GZIP:
        inflater = zlib.decompressobj(wbits=_GZIP_WINDOW)
        try:
            unpacked = inflater.decompress(data, unpacked_bytes + 1)
        except zlib.error as error:
            raise DataLoss(f"a batch cannot be unpacked: {error}") from error
    else:
        raise _invalid("codec", f"is {codec}, which was not agreed")
    if len(unpacked) != unpacked_bytes:
        raise _invalid("unpacked_bytes", f"says {unpacked_bytes:,} bytes, and there are others")
    return unpacked


def unpack_checked(batch: pb.StateBatch) -> bytes:
    """The columns of a batch. Raises InvalidRequest, and DataLoss for a wrong checksum."""
    data = unpack(batch.codec, batch.columns, batch.unpacked_bytes)
    if zlib.crc32(data) != batch.checksum:
        raise DataLoss("the checksum of a batch is wrong")
    return data


def unpack_batch(batch: pb.StateBatch) -> list[Row]:
    """The rows of a batch. Raises InvalidRequest, and DataLoss for a wrong checksum."""
    return read_columns(pb.Columns.FromString(unpack_checked(batch)))


def write_columns(rows: Sequence[Row]) -> pb.Columns:
    """Rows of any kind as columns."""
    entries = [row for row in rows if isinstance(row, EntryRow)]
    location_ids = {
        location: place for place, location in enumerate(dict.fromkeys(e.location for e in entries))
    }
    kinds = {kind: place for place, kind in enumerate(dict.fromkeys(e.kind for e in entries))}
    columns = pb.Columns(
        uuids=b"".join(entry.uuid.bytes for entry in entries),
        location_ids=b"".join(location.bytes for location in location_ids),
        locations=[location_ids[entry.location] for entry in entries],
        parents=b"".join((entry.parent or NIL).bytes for entry in entries),
        kind_names=list(kinds),
        kinds=[kinds[entry.kind] for entry in entries],
        names=[entry.name for entry in entries],
        sizes=[entry.size_bytes for entry in entries],
        modified=_differences([entry.modified_us for entry in entries]),
        fingerprints=b"".join(entry.fingerprint for entry in entries),
        fingerprint_lengths=[len(entry.fingerprint) for entry in entries],
        details=[entry.details for entry in entries] if any(entry.details for entry in entries) else (),
        versions=_differences([entry.version for entry in entries]),
    )
    for row in rows:
        if isinstance(row, TombstoneRow):
            key = b"" if row.key is None else row.key.bytes
            columns.tombstones.add(key=key, location_id=row.location.bytes, version=row.version)
        elif isinstance(row, LocationRow):
            columns.location_rows.add(
                location_id=row.uuid.bytes,
                kind=row.kind,
                origin=row.origin,
                entry_count=row.entry_count,
                indexed_us=row.indexed_us,
                version=row.version,
            )
    return columns


def read_columns(columns: pb.Columns) -> list[Row]:
    """The rows of columns, entries first. Raises InvalidRequest where they do not fit together."""
    count = len(columns.names)
    widths = {
        "uuids": len(columns.uuids) / _UUID_BYTES,
        "parents": len(columns.parents) / _UUID_BYTES,
        "locations": len(columns.locations),
        "kinds": len(columns.kinds),
        "sizes": len(columns.sizes),
        "modified": len(columns.modified),
        "fingerprint_lengths": len(columns.fingerprint_lengths),
        "versions": len(columns.versions),
        "details": len(columns.details) or count,
    }
    for name, width in widths.items():
        if width != count:
            raise _invalid(name, f"has {width:g} rows, and names {count}")
    if sum(columns.fingerprint_lengths) != len(columns.fingerprints):
        raise _invalid("fingerprint_lengths", "do not add up to the fingerprints")
    uuids, parents = _uuids(columns.uuids), _uuids(columns.parents)
    if len(set(uuids)) < count:
        raise _invalid("uuids", "a key occurs twice")
    locations = _uuids(columns.location_ids)
    bounds = pairwise((0, *accumulate(columns.fingerprint_lengths)))
    fingerprints = [columns.fingerprints[start:end] for start, end in bounds]
    try:
        rows: list[Row] = [
            EntryRow(
                uuids[n],
                locations[columns.locations[n]],
                None if parents[n] == NIL else parents[n],
                columns.kind_names[columns.kinds[n]],
                name,
                columns.sizes[n],
                modified_us,
                fingerprints[n],
                columns.details[n] if columns.details else "",
                version,
            )
            for n, (name, modified_us, version) in enumerate(
                zip(columns.names, accumulate(columns.modified), accumulate(columns.versions), strict=True)
            )
        ]
    except IndexError:
        raise _invalid("locations", "or kinds point outside of their dictionary") from None
    rows += [
        TombstoneRow(uuid_of(each.key) if each.key else None, uuid_of(each.location_id), each.version)
        for each in columns.tombstones
    ]
    rows += [
        LocationRow(
            uuid_of(each.location_id), each.kind, each.origin, each.entry_count, each.indexed_us, each.version
        )
        for each in columns.location_rows
    ]
    return rows


def write_change(row: Row, place: Place) -> pb.StateChange:
    """One row as a StateChange, with its data as JSON."""
    model, key, data, time_us = "entry", NIL, b"", 0
    if isinstance(row, EntryRow):
        key, time_us = row.uuid, row.modified_us
        data = _json(
            parent=str(row.parent) if row.parent else None,
            kind=row.kind,
            name=row.name,
            size_bytes=row.size_bytes,
            modified_us=row.modified_us,
            fingerprint=row.fingerprint.hex(),
            details=row.details,
        )
    elif isinstance(row, LocationRow):
        model, key, time_us = "location", row.uuid, row.indexed_us
        data = _json(kind=row.kind, origin=row.origin, entry_count=row.entry_count, indexed_us=row.indexed_us)
    elif row.key is None:
        model, key = "location", row.location
    else:
        key = row.key
    change = pb.StateChange(
        model_type=model,
        record=pb.StateRecord(uuid=key.bytes, data=data),
        location_id=(row.uuid if isinstance(row, LocationRow) else row.location).bytes,
        version=row.version,
        deleted=isinstance(row, TombstoneRow),
        cursor=write_place(place),
    )
    change.record.timestamp.FromDatetime(to_time(time_us))
    return change


def read_change(change: pb.StateChange) -> Row:
    """The row of a StateChange. Raises InvalidRequest."""
    location, key = uuid_of(change.location_id), uuid_of(change.record.uuid)
    if change.deleted:
        return TombstoneRow(None if change.model_type == "location" else key, location, change.version)
    try:
        data = json.loads(change.record.data)
        if change.model_type == "location":
            return LocationRow(
                key, data["kind"], data["origin"], data["entry_count"], data["indexed_us"], change.version
            )
        return EntryRow(
            key,
            location,
            uuid.UUID(data["parent"]) if data["parent"] else None,
            data["kind"],
            data["name"],
            data["size_bytes"],
            data["modified_us"],
            bytes.fromhex(data["fingerprint"]),
            data["details"],
            change.version,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise _invalid("record.data", f"is no {change.model_type}: {error!r}") from error


def write_place(place: Place) -> pb.Cursor:
    """A cursor."""
    return pb.Cursor(changed=place.changed, location_id=place.location.bytes, key=place.key.bytes)


def read_place(cursor: pb.Cursor) -> Place:
    """The place of a cursor; the beginning when it is empty."""
    if not cursor.location_id:
        return Place()
    return Place(cursor.changed, uuid_of(cursor.location_id), uuid_of(cursor.key))


def write_sums(sums: Sums) -> pb.Sums:
    """Sums as a message."""
    return pb.Sums(rows=sums.rows, high=sums.high, low=sums.low)


def read_sums(sums: pb.Sums) -> Sums:
    """Sums from a message."""
    return Sums(sums.rows, sums.high, sums.low)


def uuid_of(data: bytes) -> uuid.UUID:
    """A UUID of 16 bytes. Raises InvalidRequest."""
    if len(data) != _UUID_BYTES:
        raise _invalid("uuid", f"must be 16 bytes, and has {len(data)}")
    return uuid.UUID(bytes=data)


def _uuids(data: bytes) -> list[uuid.UUID]:
    return [uuid.UUID(bytes=data[start : start + _UUID_BYTES]) for start in range(0, len(data), _UUID_BYTES)]


def _differences(numbers: Sequence[int]) -> list[int]:
    return [after - before for before, after in pairwise((0, *numbers))]


def _json(**data: object) -> bytes:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()


def _invalid(field: str, description: str) -> InvalidRequest:
    return InvalidRequest([Violation(field, description)])
