"""The rows that travel: entries, locations and tombstones."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

MODEL = "entry"
"""The one model so far: locations with their entries."""
NIL = UUID(int=0)
LAST = UUID(int=2**128 - 1)
LOCATION_TOMBSTONE_KEY = NIL
LOCATION_ROW_KEY = UUID(int=1)
"""The places of a location's tombstone and row among its entries, in the order of a pass."""
COLUMNS = (
    "uuid uuid, location uuid, parent uuid, kind text, name text, size_bytes int8, modified_at timestamptz, "
    "fingerprint bytea, details text"
)
"""The replicated columns of an entry. Their hash shows whether two regions have the same row."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class EntryRow:
    """An entry as its owner has it."""

    uuid: UUID
    location: UUID
    parent: UUID | None
    kind: str
    name: str
    size_bytes: int
    modified_us: int
    fingerprint: bytes
    details: str
    version: int


@dataclass(frozen=True, slots=True)
class LocationRow:
    """A location as its owner has it."""

    uuid: UUID
    kind: str
    origin: str
    entry_count: int
    indexed_us: int
    version: int


@dataclass(frozen=True, slots=True)
class TombstoneRow:
    """A row that is gone; `key` None: a whole location is."""

    key: UUID | None
    location: UUID
    version: int


Row = EntryRow | LocationRow | TombstoneRow


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pass or a load is: after this row. `changed` is 0 in a load."""

    changed: int = 0
    location: UUID = NIL
    key: UUID = NIL


START = Place()


def entry_of(record: Any) -> EntryRow:
    """An entry from the columns of a database row."""
    return EntryRow(
        record["uuid"],
        record["location"],
        record["parent"],
        record["kind"],
        record["name"],
        record["size_bytes"],
        to_micros(record["modified_at"]),
        record["fingerprint"],
        record["details"],
        record["version"],
    )


def to_micros(time: datetime) -> int:
    """Microseconds since 1970-01-01 UTC."""
    return (time - _EPOCH) // _MICROSECOND


def to_time(micros: int) -> datetime:
    """The time for a number of microseconds since 1970-01-01 UTC."""
    return _EPOCH + timedelta(microseconds=micros)
