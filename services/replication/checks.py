"""Pure: validation of locations and entries. All violations of a request are reported at once."""

import re
import uuid
from collections.abc import Sequence

from services.replication.rows import LAST, LOCATION_ROW_KEY, NIL, EntryRow
from tally.contract.errors import InvalidRequest, Violation
from tally.replication.v1 import entries_pb2 as pb

MAX_BATCH_ROWS = 10_000
_MAX_KIND_BYTES = 64
_MAX_NAME_BYTES = 1024
_MAX_DETAILS_BYTES = 8 * 1024
_MAX_FINGERPRINT_BYTES = 32
_MAX_TIME_S = 253_402_300_799  # 9999-12-31
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_RESERVED = (NIL, LOCATION_ROW_KEY, LAST)


def read_uuid(text: str, field: str) -> uuid.UUID:
    """A UUID in text form. Raises InvalidRequest."""
    try:
        found = uuid.UUID(text)
    except ValueError:
        raise InvalidRequest([Violation(field, f"{text!r} is no UUID")]) from None
    if found in _RESERVED:
        raise InvalidRequest([Violation(field, f"{found} is reserved")])
    return found


def check_text(text: str, field: str, most: int, *, least: int = 0) -> list[Violation]:
    """The violation of a text of this size."""
    size = len(text.encode())
    if not least <= size <= most:
        return [Violation(field, f"must have {least} to {most:,} bytes, and has {size:,}")]
    if _CONTROL.search(text):
        return [Violation(field, "must not contain control characters")]
    return []


def check_location(kind: str, origin: str) -> None:
    """Raises InvalidRequest for what no location may be."""
    found = check_text(kind, "kind", _MAX_KIND_BYTES, least=1) + check_text(origin, "origin", _MAX_NAME_BYTES)
    if found:
        raise InvalidRequest(found)


def read_entries(entries: Sequence[pb.Entry], location: uuid.UUID) -> list[EntryRow]:
    """The rows of a request. Raises InvalidRequest with everything that is wrong with them."""
    if len(entries) > MAX_BATCH_ROWS:
        raise InvalidRequest([Violation("entries", f"must be at most {MAX_BATCH_ROWS:,}; cut the request")])
    found: list[Violation] = []
    rows: list[EntryRow] = []
    keys: set[uuid.UUID] = set()
    for number, entry in enumerate(entries):
        field = f"entries[{number}]"
        wrong = _check_entry(entry, field)
        if not wrong:
            row = _row(entry, location)
            if row.uuid in keys:
                wrong = [Violation(f"{field}.entry_id", "occurs twice in the request")]
            keys.add(row.uuid)
            rows.append(row)
        found += wrong
    if found:
        raise InvalidRequest(found[:20], len(found))
    return rows


def _row(entry: pb.Entry, location: uuid.UUID) -> EntryRow:
    return EntryRow(
        uuid.UUID(entry.entry_id),
        location,
        uuid.UUID(entry.parent_id) if entry.parent_id else None,
        entry.kind,
        entry.name,
        entry.size_bytes,
        entry.modified_at.seconds * 1_000_000 + entry.modified_at.nanos // 1000,
        entry.fingerprint,
        entry.details,
        0,
    )


def _check_entry(entry: pb.Entry, field: str) -> list[Violation]:
    found = _check_uuid(entry.entry_id, f"{field}.entry_id")
    if entry.parent_id:
        found += _check_uuid(entry.parent_id, f"{field}.parent_id")
        if entry.parent_id == entry.entry_id:
            found.append(Violation(f"{field}.parent_id", "must not be the entry itself"))
    found += check_text(entry.kind, f"{field}.kind", _MAX_KIND_BYTES, least=1)
    found += check_text(entry.name, f"{field}.name", _MAX_NAME_BYTES, least=1)
    if len(entry.details.encode()) > _MAX_DETAILS_BYTES or "\0" in entry.details:
        found.append(
            Violation(f"{field}.details", f"must have at most {_MAX_DETAILS_BYTES:,} bytes, and no zero byte")
        )
    if entry.size_bytes < 0:
        found.append(Violation(f"{field}.size_bytes", "must not be negative"))
    if len(entry.fingerprint) > _MAX_FINGERPRINT_BYTES:
        found.append(Violation(f"{field}.fingerprint", f"must have at most {_MAX_FINGERPRINT_BYTES} bytes"))
    if not 0 <= entry.modified_at.nanos < 1_000_000_000 or not 0 <= entry.modified_at.seconds <= _MAX_TIME_S:
        found.append(Violation(f"{field}.modified_at", "must be a time from 1970 to 9999"))
    return found


def _check_uuid(text: str, field: str) -> list[Violation]:
    try:
        read_uuid(text, field)
    except InvalidRequest as error:
        return list(error.violations)
    return []
