"""Pure: the 128-bit hash of a row in its one canonical form, and sums of them.

The form depends on no version, locale or time zone. The function `replication.entry_hash` of the schema computes the
same for entries. Sums are kept per half modulo 2^64: unlike XOR, equal hashes do not cancel.
"""

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from services.replication.rows import COLUMNS, NIL, EntryRow, Row, TombstoneRow

_MODULUS = 2**64
COLUMNS_HASH = hashlib.sha256(COLUMNS.encode()).digest()[:16]


@dataclass(slots=True)
class Sums:
    """How many rows, and the sums of the halves of their hashes."""

    rows: int = 0
    high: int = 0
    low: int = 0

    def add(self, row: Row) -> None:
        """Count one more row."""
        self.add_digest(hash_of(row))

    def add_digest(self, digest: bytes) -> None:
        """Count one more row by its hash."""
        self.rows += 1
        self.high = (self.high + int.from_bytes(digest[:8], "big")) % _MODULUS
        self.low = (self.low + int.from_bytes(digest[8:], "big")) % _MODULUS

    def add_all(self, rows: Iterable[Row]) -> "Sums":
        """Count more rows; returns itself."""
        for row in rows:
            self.add(row)
        return self

    def __str__(self) -> str:
        return f"{self.rows} rows, {self.high:016x}{self.low:016x}"


def sums_of(rows: int, high: int, low: int) -> Sums:
    """Sums as Postgres has them: of signed halves, not yet modulo anything."""
    return Sums(rows, int(high) % _MODULUS, int(low) % _MODULUS)


def hash_of(row: Row) -> bytes:
    """16 bytes over key and content."""
    return hashlib.md5(_canonical(row), usedforsecurity=False).digest()


def _canonical(row: Row) -> bytes:
    if isinstance(row, EntryRow):
        kind, name, details = row.kind.encode(), row.name.encode(), row.details.encode()
        return b"".join(
            (
                row.uuid.bytes,
                row.location.bytes,
                (row.parent or NIL).bytes,
                struct.pack(">i", len(kind)),
                kind,
                struct.pack(">i", len(name)),
                name,
                struct.pack(">qq", row.size_bytes, row.modified_us),
                struct.pack(">i", len(row.fingerprint)),
                row.fingerprint,
                struct.pack(">i", len(details)),
                details,
            )
        )
    if isinstance(row, TombstoneRow):
        return b"gone" + (row.key or NIL).bytes + row.location.bytes + struct.pack(">q", row.version)
    kind, origin = row.kind.encode(), row.origin.encode()
    return b"".join(
        (
            b"location",
            row.uuid.bytes,
            struct.pack(">i", len(kind)),
            kind,
            struct.pack(">i", len(origin)),
            origin,
            struct.pack(">qqq", row.entry_count, row.indexed_us, row.version),
        )
    )
