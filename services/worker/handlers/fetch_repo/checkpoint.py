"""The checkpoint: accounts that are verified and not delivered yet, in SQLite on the worker's own volume.

One commit is for all accounts that are handed in at once; it is durable when `save` returns. A file belongs to one
process at a time.
"""

import fcntl
import shutil
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from libs.dataset.rows import Row
from services.worker.handlers.fetch_repo.verifying import Fetched

_PRAGMAS = ("journal_mode = wal", "synchronous = full", "foreign_keys = on")
_CREATE = f"""
create table if not exists account (did text primary key, rev text not null, records integer not null,
    bytes integer not null, is_leaving integer not null default 0) strict;
create table if not exists record (did text not null references account on delete cascade, bucket integer not null,
    collection text not null, rkey text not null, {", ".join(Row._fields[4:])}, primary key (did, collection, rkey));
create index if not exists record_part on record (collection, bucket, did, rkey);"""
_ADD = "insert into account (did, rev, records, bytes) values (?, ?, ?, ?)"
_ADD_RECORD = f"insert into record ({', '.join(Row._fields)}) values ({', '.join('?' * len(Row._fields))})"
_ACCOUNTS = "select did, rev, records, bytes from account order by did"
_LEAVE = "update account set is_leaving = did in (select did from account order by did limit ?)"
_LEAVING = "select did, rev, records, bytes from account where is_leaving order by did"
_COLLECTIONS = """
select distinct collection from record where did in (select did from account where is_leaving) order by collection"""
_ROWS = f"""
select {", ".join(Row._fields)} from record
where collection = ? and did in (select did from account where is_leaving) order by bucket, did, rkey"""
_REMOVE = "delete from account where is_leaving"

_MOST_FILES = 1_000
_MOST_LEAVING = 5_000
"""accounts in a delivery"""


@dataclass(frozen=True, slots=True)
class Kept:
    """An account in the checkpoint."""

    did: str
    rev: str
    record_count: int
    byte_count: int


class Checkpoint:
    """One file. Its methods block, and may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        """Take the first file in `folder` that no other process has: one that a dead process left comes first."""
        folder.mkdir(parents=True, exist_ok=True)
        self._lock_file, number = _take(folder)
        self.work_folder = folder / f"work-{number}"
        """for files of this process; empty"""
        shutil.rmtree(self.work_folder, ignore_errors=True)
        self.work_folder.mkdir()
        path = folder / f"checkpoint-{number}.sqlite"
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        for pragma in _PRAGMAS:
            self._database.execute(f"pragma {pragma}")
        self._database.executescript(_CREATE)

    def close(self) -> None:
        """Close the file, for another process to take."""
        with self._lock:
            self._database.close()
            self._lock_file.close()

    def save(self, accounts: Iterable[Fetched]) -> None:
        """Keep accounts that are not kept yet, durably, in one commit."""
        with self._lock, _commit(self._database):
            for account in accounts:
                added = (account.did, account.rev, len(account.rows), account.byte_count)
                self._database.execute(_ADD, added)
                self._database.executemany(_ADD_RECORD, account.rows)

    def list_accounts(self) -> list[Kept]:
        """All accounts."""
        with self._lock:
            return [Kept(*row) for row in self._database.execute(_ACCOUNTS)]

    def begin_delivery(self) -> list[Kept]:
        """Choose accounts that are there now as those that leave; which they are."""
        with self._lock, _commit(self._database):
            self._database.execute(_LEAVE, (_MOST_LEAVING,))
            return [Kept(*row) for row in self._database.execute(_LEAVING)]

    def leaving_parts(self) -> Iterator[Sequence[Row]]:
        """The rows of those accounts, for each collection, in the order of a part."""
        with self._lock:
            collections = [row[0] for row in self._database.execute(_COLLECTIONS)]
        for collection in collections:
            with self._lock:
                rows = self._database.execute(_ROWS, (collection,)).fetchall()
            yield [Row._make(row)._replace(has_video=bool(row[11])) for row in rows]

    def end_delivery(self) -> None:
        """Remove the accounts that left."""
        with self._lock, _commit(self._database):
            self._database.execute(_REMOVE)


class _commit:  # noqa: N801 - it reads as a verb
    """A transaction of SQLite: committed at the end, rolled back by an exception."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._database.execute("begin immediate")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._database.execute("commit" if kind is None else "rollback")


def _take(folder: Path) -> tuple[IO[bytes], int]:
    """The lock of the first free file, and its number. The lock ends with the process, however that ends."""
    for number in range(_MOST_FILES):
        lock_file = (folder / f"checkpoint-{number}.lock").open("ab")
        try:
            fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock_file.close()
            continue
        return lock_file, number
    raise RuntimeError(f"{folder} has {_MOST_FILES} checkpoints in use")
