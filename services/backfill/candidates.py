"""Candidates: the records that are events, read from the parts of the dataset.

Every part is read once, into a table of the columns that matter, in a database on disk. Likes and reposts are joined
with the posts that are known to have a video, of all buckets. One whose post is not known waits in the dataset
(T002-43).
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from libs.dataset.parts import open_duckdb
from libs.dataset.rows import LIKE, POST, REPOST
from libs.stores.objects import Objects
from libs.stores.transactions import transaction
from services.backfill.plan import Event

_PARTS = """
select name, array_agg(delivery_id order by delivery_id) as deliveries
from backfill.part where collection = $1 group by name order by name"""
# A row counts only if its account's row names a delivery of the part.
_DIDS = "select did from backfill.repo where delivery_id = any($1)"

_CREATE = """
create table post (bucket smallint, uri varchar, did varchar, time_us bigint);
create table reaction (bucket smallint, uri varchar, kind varchar, subject varchar, did varchar, time_us bigint)"""
_ADD_POSTS = """
insert into post select bucket, uri, did, time_us from read_parquet([$path])
where has_video and did in (select did from dids)"""
_ADD_REACTIONS = """
insert into reaction select bucket, uri, $kind, subject, did, time_us from read_parquet([$path])
where did in (select did from dids)"""
_POSTS = "select uri, 'post', uri, did, time_us from post where bucket = $bucket"
_REACTIONS = """
select uri, kind, subject, did, time_us from reaction
where bucket = $bucket and subject in (select uri from post)"""
_OTHERS = """
select count(*) from reaction
where bucket = $bucket and (subject is null or subject not in (select uri from post))"""

_KINDS: Mapping[str, str] = {LIKE: "like", REPOST: "repost"}


@dataclass(frozen=True, slots=True)
class Found:
    """The events of a bucket, and how many likes and reposts are of no known video."""

    events: Sequence[Event]
    other_count: int


class Candidates:
    """The records of the dataset as it is now, in a DuckDB of its own."""

    def __init__(self, pool: Any, objects: Objects, folder: Path) -> None:
        self._pool = pool
        self._objects = objects
        self._folder = folder
        self._duckdb = open_duckdb(folder)
        self._lock = asyncio.Lock()
        """one statement at a time"""

    def close(self) -> None:
        """Close the database."""
        self._duckdb.close()

    async def load(self) -> None:
        """Read every part. Raises Unavailable for one that is not in the object store."""
        self._duckdb.execute(_CREATE)
        for collection in (POST, *_KINDS):
            for part in await self._fetch(_PARTS, collection):
                rows = await self._fetch(_DIDS, part["deliveries"])
                if rows:
                    path = await self._objects.fetch(part["name"], self._folder)
                    dids = np.array([row["did"] for row in rows], object)
                    await asyncio.to_thread(self._add, path, collection, dids)

    async def of(self, bucket: int) -> Found:
        """The events of a bucket."""
        async with self._lock:
            return await asyncio.to_thread(self._read, bucket)

    async def _fetch(self, statement: str, argument: Any) -> Sequence[Any]:
        async with transaction(self._pool) as connection:
            rows: Sequence[Any] = await connection.fetch(statement, argument)
        return rows

    def _add(self, path: Path, collection: str, dids: Any) -> None:
        self._duckdb.register("dids", {"did": dids})
        arguments = {"path": str(path)}
        if collection == POST:
            self._duckdb.execute(_ADD_POSTS, arguments)
        else:
            self._duckdb.execute(_ADD_REACTIONS, {**arguments, "kind": _KINDS[collection]})
        self._duckdb.unregister("dids")
        if path.parent == self._folder:  # a copy
            path.unlink()

    def _read(self, bucket: int) -> Found:
        own = {"bucket": bucket}
        rows = self._duckdb.execute(_POSTS, own).fetchall() + self._duckdb.execute(_REACTIONS, own).fetchall()
        ((others,),) = self._duckdb.execute(_OTHERS, own).fetchall()
        return Found([Event._make(row) for row in rows], others)


@asynccontextmanager
async def open_candidates(pool: Any, objects: Objects, folder: Path) -> AsyncIterator[Candidates]:
    """The records of the dataset as it is now, for as long as they are needed in a folder of their own in `folder`."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as own:
        candidates = Candidates(pool, objects, Path(own))
        try:
            await candidates.load()
            yield candidates
        finally:
            candidates.close()
