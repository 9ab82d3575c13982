"""Candidates: the records of a bucket that are events, read from the parts of the dataset.

Likes and reposts are joined with the posts that are known to have a video, of all buckets. One whose post is not known
waits in the dataset (T002-43).
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from libs.dataset.parts import open_duckdb
from libs.dataset.rows import BUCKETS, LIKE, POST, REPOST
from libs.stores.objects import Objects
from libs.stores.transactions import transaction
from services.backfill.plan import Event

_REPOS = (
    "select did, delivery_id from backfill.repo where bucket = $1 and delivery_id is not null order by did"
)
_PARTS = """
select name, delivery_id from backfill.part where collection = $1 and delivery_id = any($2)
order by name, delivery_id"""

# A row counts only if its account's row names a delivery of the part.
_ROWS = """
from read_parquet($paths, filename = true) as part
where part.bucket = $bucket and exists (select 1 from repos join files using (delivery)
    where repos.did = part.did and files.path = part.filename)"""
_CREATE = "create table video (uri varchar)"
_VIDEOS = f"insert into video select part.uri {_ROWS} and part.has_video"
_POSTS = f"select part.uri, part.uri, part.did, part.time_us {_ROWS} and part.has_video"
_SUBJECTS = f"select part.uri, part.subject, part.did, part.time_us {_ROWS} and part.subject in (from video)"
_OTHERS = f"""
select count(*) {_ROWS} and (part.subject is null or part.subject not in (from video))"""

_KINDS = {LIKE: "like", REPOST: "repost"}


@dataclass(frozen=True, slots=True)
class Found:
    """The events of a bucket, and how many likes and reposts are of no known video."""

    events: Sequence[Event]
    other_count: int


@dataclass(frozen=True, slots=True)
class _Source:
    """What the statements read: files with their deliveries, and accounts with theirs."""

    bucket: int
    files: Sequence[tuple[str, str]]
    repos: Sequence[tuple[str, str]]


class Candidates:
    """Reads buckets, in a DuckDB of its own."""

    def __init__(self, pool: Any, objects: Objects, folder: Path) -> None:
        self._pool = pool
        self._objects = objects
        self._folder = folder
        self._duckdb = open_duckdb(folder)

    def close(self) -> None:
        """Close the database."""
        self._duckdb.close()

    async def read_videos(self) -> None:
        """Learn which posts have a video."""
        self._duckdb.execute(_CREATE)
        for bucket in range(BUCKETS):
            source = await self._source(bucket, POST)
            await asyncio.to_thread(self._query, source, _VIDEOS)

    async def of(self, bucket: int) -> Found:
        """The events of a bucket."""
        source = await self._source(bucket, POST)
        rows = await asyncio.to_thread(self._query, source, _POSTS)
        events = [Event(uri, "post", video, did, time_us) for uri, video, did, time_us in rows]
        other_count = 0
        for collection, kind in _KINDS.items():
            source = await self._source(bucket, collection)
            rows = await asyncio.to_thread(self._query, source, _SUBJECTS)
            events += [Event(uri, kind, video, did, time_us) for uri, video, did, time_us in rows]
            others = await asyncio.to_thread(self._query, source, _OTHERS)
            other_count += sum(count for (count,) in others)
        return Found(events, other_count)

    async def _source(self, bucket: int, collection: str) -> _Source:
        """Raises Missing when a part is not in the object store."""
        async with transaction(self._pool) as connection:
            repos = await connection.fetch(_REPOS, bucket)
            deliveries = sorted({row["delivery_id"] for row in repos})
            parts = await connection.fetch(_PARTS, collection, deliveries)
        files = [
            (str(await self._objects.fetch(row["name"], self._folder)), row["delivery_id"]) for row in parts
        ]
        return _Source(bucket, files, [(row["did"], row["delivery_id"]) for row in repos])

    def _query(self, source: _Source, statement: str) -> list[Any]:
        if not source.files:
            return []
        self._duckdb.register("files", _columns(("path", "delivery"), source.files))
        self._duckdb.register("repos", _columns(("did", "delivery"), source.repos))
        try:
            paths = sorted({path for path, _ in source.files})
            return self._duckdb.execute(statement, {"paths": paths, "bucket": source.bucket}).fetchall()
        finally:
            self._duckdb.unregister("files")
            self._duckdb.unregister("repos")


@asynccontextmanager
async def open_candidates(pool: Any, objects: Objects) -> AsyncIterator[Candidates]:
    """Candidates of the dataset as it is now."""
    with TemporaryDirectory(prefix="tally-backfill-") as folder:
        candidates = Candidates(pool, objects, Path(folder))
        try:
            await candidates.read_videos()
            yield candidates
        finally:
            candidates.close()


def _columns(names: Sequence[str], rows: Sequence[tuple[str, str]]) -> dict[str, Any]:
    columns = {}
    for name, values in zip(names, zip(*rows, strict=True), strict=True):
        columns[name] = np.empty(len(values), object)
        columns[name][:] = values
    return columns
