"""A snapshot of one device as a SQLite file, which any SQLite tool opens: written here, and read with suspicion.

A file from a peer is opened read-only and with an untrusted schema. Only the expected tables are read, and every value
is checked for its type, because SQLite lets text into a column of numbers.
"""

import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from services.replication.rows import EntryRow, LocationRow
from tally.contract.errors import StaleSnapshot

_TABLES = {
    "manifest": "CREATE TABLE manifest (key text primary key, value text not null) without rowid",
    "location": (
        "CREATE TABLE location (uuid blob primary key, kind text not null, origin text not null, "
        "entry_count integer not null, indexed_us integer not null, version integer not null) without rowid"
    ),
    "entry": (
        "CREATE TABLE entry (uuid blob primary key, location blob not null, parent blob, kind text not null, "
        "name text not null, size_bytes integer not null, modified_us integer not null, fingerprint blob not null, "
        "details text not null, version integer not null) without rowid"
    ),
}
_ENTRY_TYPES = (bytes, bytes, (bytes, type(None)), str, str, int, int, bytes, str, int)
_LOCATION_TYPES = (bytes, str, str, int, int, int)
_READ_ENTRIES = """
select uuid, location, parent, kind, name, size_bytes, modified_us, fingerprint, details, version
from entry order by uuid"""
_READ_LOCATIONS = "select uuid, kind, origin, entry_count, indexed_us, version from location order by uuid"
_PAGE_ROWS = 5_000


class SnapshotWriter:
    """Writes a new file."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        for pragma in ("journal_mode = off", "synchronous = off", "page_size = 8192"):
            self._connection.execute(f"pragma {pragma}")
        self._connection.execute("begin")
        for table in _TABLES.values():
            self._connection.execute(table)

    def add_locations(self, rows: Sequence[LocationRow]) -> None:
        self._connection.executemany(
            "insert into location values (?, ?, ?, ?, ?, ?)",
            [
                (row.uuid.bytes, row.kind, row.origin, row.entry_count, row.indexed_us, row.version)
                for row in rows
            ],
        )

    def add_entries(self, rows: Sequence[EntryRow]) -> None:
        self._connection.executemany(
            "insert into entry values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    row.uuid.bytes,
                    row.location.bytes,
                    None if row.parent is None else row.parent.bytes,
                    row.kind,
                    row.name,
                    row.size_bytes,
                    row.modified_us,
                    row.fingerprint,
                    row.details,
                    row.version,
                )
                for row in rows
            ],
        )

    def finish(self, manifest: dict[str, str]) -> None:
        """Write the manifest and close the file."""
        self._connection.executemany("insert into manifest values (?, ?)", list(manifest.items()))
        self._connection.execute("commit")
        self._connection.close()

    def abandon(self) -> None:
        self._connection.close()


class SnapshotReader:
    """Reads a file. Raises StaleSnapshot for one that is not as expected."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        found = dict(
            connection.execute("select name, sql from sqlite_master where name not like 'sqlite_autoindex%'")
        )
        if found != _TABLES:
            raise StaleSnapshot(
                f"a snapshot has the tables {', '.join(sorted(found)) or 'none'}, with other columns, triggers or "
                f"views than expected ({', '.join(sorted(_TABLES))}); it is refused whole"
            )

    def locations(self) -> list[LocationRow]:
        return [
            LocationRow(uuid.UUID(bytes=row[0]), *row[1:])
            for row in self._checked(_READ_LOCATIONS, _LOCATION_TYPES, "location")
        ]

    def pages(self) -> Iterator[list[EntryRow]]:
        page: list[EntryRow] = []
        for row in self._checked(_READ_ENTRIES, _ENTRY_TYPES, "entry"):
            parent = None if row[2] is None else uuid.UUID(bytes=row[2])
            page.append(EntryRow(uuid.UUID(bytes=row[0]), uuid.UUID(bytes=row[1]), parent, *row[3:]))
            if len(page) == _PAGE_ROWS:
                yield page
                page = []
        if page:
            yield page

    def _checked(self, query: str, types: Sequence[Any], table: str) -> Iterator[Any]:
        try:
            for row in self._connection.execute(query):
                if not all(map(isinstance, row, types)):
                    raise StaleSnapshot(
                        f"a snapshot has a value of a wrong type in its table {table}; it is refused whole"
                    )
                yield row
        except (sqlite3.Error, ValueError) as error:
            raise StaleSnapshot(f"a snapshot cannot be read: {error}; it is refused whole") from error


@contextmanager
def open_snapshot(path: Path) -> Iterator[SnapshotReader]:
    """Open an untrusted file from a peer."""
    try:
        with closing(
            sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False)
        ) as db:
            db.execute("pragma trusted_schema = off")
            db.execute("pragma cell_size_check = on")
            yield SnapshotReader(db)
    except sqlite3.Error as error:
        raise StaleSnapshot(f"a snapshot cannot be read: {error}; it is refused whole") from error
