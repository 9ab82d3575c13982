"""The spool's file: entries on the shard's own disk, in SQLite (https://sqlite.org/wal.html).

All functions block on the disk; `spool` runs them in a thread. `synchronous = full` makes a commit return only when its
pages are on the disk, and the exclusive lock keeps a second process out for as long as the file is open.

Deleting an entry needs disk space too, in SQLite's write-ahead log, and so does copying that log into the database. So
a file `reserve` occupies space, and is deleted if the disk is full when the spool must be drained.
"""

import os
import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.domain.entry import Entry, Outcome
from libs.embedded.files import append_to, refuse_link_of_another
from tally.contract.errors import NotReady

# Before anything else is asked.
_LOCK = "pragma locking_mode = exclusive"
# Before the first table: a file keeps the kind of vacuum that it was made with.
_KIND_OF_VACUUM = "pragma auto_vacuum = incremental"
_INCREMENTAL = 2
_SET_UP = """
pragma journal_mode = wal;
pragma synchronous = full;
pragma temp_store = memory;
pragma journal_size_limit = 8388608;
pragma wal_autocheckpoint = 256"""
_RESERVE_BYTES = 8 * 1024 * 1024
"""More than the log holds by its checkpoints (1 MiB), the largest insert (4 MiB) and a deletion together."""
_RESERVE_SHARE = 8
"""For a small spool, the reserve is this fraction of its size."""
# The payload comes last, so that the other columns are found without reading it.
_CREATE = """
create table if not exists cluster (cluster_id blob not null);
create table if not exists entry (
    id             integer primary key autoincrement,   -- in the order of arrival, and never used again
    request_id     blob not null,
    partition      integer not null,
    request_hash   integer not null,
    received_at_us integer not null,
    events         integer not null,
    traceparent    text not null,
    payload        blob not null,
    unique (request_id, partition)
)"""
_INSERT = """
insert into entry (request_id, partition, request_hash, received_at_us, events, traceparent, payload)
values (?, ?, ?, ?, ?, ?, ?)
on conflict (request_id, partition) do nothing"""
_HASH = "select request_hash from entry where request_id = ? and partition = ?"
_READ = """
select id, request_id, partition, request_hash, received_at_us, events, traceparent, payload
from entry where id > ? order by id limit ?"""
_DELETE = "delete from entry where id = ?"
_SHRINK = (
    "pragma wal_checkpoint (truncate); pragma incremental_vacuum (1024); pragma wal_checkpoint (truncate)"
)
_FREE = "pragma freelist_count"
_COUNT = "select count(*) from entry"
_OLDEST = "select received_at_us from entry order by id limit 1"

_NO_ROOM = frozenset(
    (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
)
_DAMAGED = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB))


class NoRoom(Exception):
    """Not done: the file is as large as it may be, or the disk is full, fails, or is read-only now."""


class HeldElsewhere(NotReady):
    """Another process has the spool open."""


@dataclass(frozen=True, slots=True)
class Spooled:
    """An entry as stored in the spool."""

    id: int
    request_id: uuid.UUID
    partition: int
    request_hash: int
    received_at_us: int
    """its first durable receipt: microseconds since 1970-01-01 UTC by Postgres's clock"""
    event_count: int
    traceparent: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Contents:
    """How much there is."""

    entry_count: int
    byte_count: int
    """of the file, less what is free in it"""
    oldest_at_us: int | None
    """the receipt of the first entry"""


class SpoolFile:
    """One open spool. Its methods block, and come from one thread at a time."""

    def __init__(
        self, path: Path, cluster_id: uuid.UUID, max_bytes: int, lock_timeout_seconds: float
    ) -> None:
        """Open the file, or make it.

        Raises HeldElsewhere, and NotReady when it cannot be used: no access, damaged, of another cluster.
        """
        self.path = path
        with _as_not_ready(path):
            _make_folder(path.parent)
            refuse_link_of_another(path)
            self._connection = sqlite3.connect(
                path, timeout=lock_timeout_seconds, isolation_level=None, check_same_thread=False
            )
            try:
                self._set_up(max_bytes)
                self._check(cluster_id)
            except BaseException:
                self._connection.close()
                raise
        self.contents = self._look(self._value(_COUNT))
        self._reserve = path.with_name("reserve")
        self._reserve_bytes = min(_RESERVE_BYTES, max_bytes // _RESERVE_SHARE)
        if not self.contents.entry_count:
            self._make_reserve()

    def write(self, entries: Sequence[Entry], received_at_us: int) -> list[Outcome]:
        """Keep entries, all or none, in one transaction; on the disk when this returns.

        The outcome of each, in order: SPOOLED, also when it was there already, or CONTENT_MISMATCH. Raises NoRoom.
        """
        with self._transaction():
            before = self._connection.total_changes
            outcomes = [self._insert(entry, received_at_us) for entry in entries]
            inserted = self._connection.total_changes - before
            contents = self._look(self.contents.entry_count + inserted)
        self.contents = contents
        return outcomes

    def read(self, after_id: int, max_entries: int, max_events: int) -> list[Spooled]:
        """The next entries by id: as many as hold `max_events` events, the last of them counted in; at least one if
        there is any, and at most `max_entries`. Raises NoRoom.
        """
        found: list[Spooled] = []
        events = 0
        with _telling_room():
            for row in self._connection.execute(_READ, (after_id, max_entries)):
                found.append(Spooled(row[0], uuid.UUID(bytes=row[1]), *row[2:]))
                events += found[-1].event_count
                if events >= max_events:
                    break
        return found

    def delete(self, ids: Sequence[int]) -> None:
        """Forget entries; the room of the last one goes back to the disk. Raises NoRoom."""
        try:
            self._delete(ids)
        except NoRoom:
            self._reserve.unlink(missing_ok=True)
            self._delete(ids)
        if not self.contents.entry_count:
            with suppress(NoRoom):  # all is forgotten; what room is left, the next entries use
                self._shrink()
            self._make_reserve()

    def _delete(self, ids: Sequence[int]) -> None:
        with self._transaction():
            before = self._connection.total_changes
            self._connection.executemany(_DELETE, [(each,) for each in ids])
            deleted = self._connection.total_changes - before
            contents = self._look(self.contents.entry_count - deleted)
        self.contents = contents

    def _shrink(self) -> None:
        """Give the room back, piece by piece: each piece goes through the log, which a full disk keeps small."""
        with _telling_room():
            before = None
            while (free := self._value(_FREE)) != before:
                # Not `execute`: it takes one step, and each step gives one page back.
                self._connection.executescript(_SHRINK)
                before = free
            self.contents = self._look(0)

    def _make_reserve(self) -> None:
        """Take the room from the disk, if it is there; a spool that is empty needs none to be emptied."""
        with suppress(OSError), os.fdopen(append_to(self._reserve), "ab") as reserve:
            try:
                os.posix_fallocate(reserve.fileno(), 0, self._reserve_bytes)
            except OSError:
                self._reserve.unlink(missing_ok=True)

    def close(self) -> None:
        self._connection.close()

    def _set_up(self, max_bytes: int) -> None:
        self._connection.execute(_LOCK)
        if self._value("pragma auto_vacuum") != _INCREMENTAL:
            self._connection.execute(_KIND_OF_VACUUM)
        self._connection.executescript(_SET_UP)
        if self._value("pragma journal_mode") != "wal":
            raise NotReady(
                f"the file system of the spool {self.path} cannot hold an SQLite database in WAL mode. "
                "Set TALLY_COUNTING__SPOOL__FOLDER to a folder on a local disk"
            )
        found = self._value("pragma quick_check (1)")
        if found != "ok":
            raise _damaged(self.path, " ".join(found.split()))
        self._page_bytes: int = self._value("pragma page_size")
        with self._transaction():
            for statement in _CREATE.split(";"):
                self._connection.execute(statement)
        self._connection.execute(f"pragma max_page_count = {max(1, max_bytes // self._page_bytes)}")

    def _check(self, cluster_id: uuid.UUID) -> None:
        """Entries of one cluster must not be counted in another."""
        held = self._value("select cluster_id from cluster")
        count = self._value(_COUNT)
        if held == cluster_id.bytes:
            return  # nothing to write: a disk that is full must not keep a shard from its entries
        if held is not None and count:
            raise NotReady(
                f"the spool {self.path} holds {count} entries of another cluster ({uuid.UUID(bytes=held)}). "
                "Start a shard of that cluster with it, or set another folder: TALLY_COUNTING__SPOOL__FOLDER"
            )
        with self._transaction():
            self._connection.execute("delete from cluster")
            self._connection.execute("insert into cluster (cluster_id) values (?)", (cluster_id.bytes,))

    def _insert(self, entry: Entry, received_at_us: int) -> Outcome:
        key = (entry.request_id.bytes, entry.partition)
        values = (entry.request_hash, received_at_us, len(entry.events), entry.traceparent, entry.payload)
        if not self._connection.execute(_INSERT, (*key, *values)).rowcount:
            [(request_hash,)] = self._connection.execute(_HASH, key)
            if request_hash != entry.request_hash:
                return Outcome.CONTENT_MISMATCH
        return Outcome.SPOOLED

    def _look(self, entry_count: int) -> Contents:
        used_pages = self._value("pragma page_count") - self._value(_FREE)
        return Contents(entry_count, used_pages * self._page_bytes, self._value(_OLDEST))

    def _value(self, query: str) -> Any:
        row = self._connection.execute(query).fetchone()
        return None if row is None else row[0]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _telling_room():
            self._connection.execute("begin immediate")
            try:
                yield
                self._connection.execute("commit")
            except BaseException:
                if self._connection.in_transaction:  # SQLite undoes some of them by itself
                    self._connection.execute("rollback")
                raise


@contextmanager
def _telling_room() -> Iterator[None]:
    """NoRoom for errors that may pass. The error of a damaged file is unchanged and ends the process."""
    try:
        yield
    except sqlite3.Error as error:
        if _code_of(error) in _NO_ROOM:
            raise NoRoom(str(error)) from error
        raise


@contextmanager
def _as_not_ready(path: Path) -> Iterator[None]:
    """Whatever keeps a spool from being opened, in words that say what to do."""
    try:
        yield
    except sqlite3.Error as error:
        if _code_of(error) == sqlite3.SQLITE_BUSY:
            raise HeldElsewhere(
                f"another process has the spool {path}. Give each shard a folder of its own: "
                "TALLY_COUNTING__SPOOL__FOLDER"
            ) from error
        if _code_of(error) in _DAMAGED:
            raise _damaged(path, str(error)) from error
        raise _unusable(path, error) from error
    except (OSError, NoRoom) as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: Exception) -> NotReady:
    return NotReady(
        f"cannot use the spool {path}: {error}. Set TALLY_COUNTING__SPOOL__FOLDER to a folder on a disk of the "
        "shard's own that it may write to, or TALLY_COUNTING__SPOOL__ENABLED=false to do without a spool"
    )


def _damaged(path: Path, found: str) -> NotReady:
    return NotReady(
        f"the spool {path} is damaged ({found}). It may hold entries that were acknowledged and are nowhere else: "
        f"keep a copy, try `sqlite3 {path} .recover`, and move it away to start without them"
    )


def _code_of(error: sqlite3.Error) -> int | None:
    """The primary result code; an error of the module itself has none."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _make_folder(folder: Path) -> None:
    """Create the folder and its parents, and sync them to disk: SQLite syncs only its own file."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in made:
        descriptor = os.open(each.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
