"""Peer (d): Postgres, one upsert an event, each a transaction of its own."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from loadtests.bench.contender import Store
from loadtests.bench.events import EVENT_TYPES, Request
from loadtests.bench.oracle import Counts
from loadtests.bench.postgres import open_connections, open_counting_postgres, read_counts

LACKS = ("dropping repeated requests", "time windows", "a recount: raw events are not kept", "values")
_CONNECTIONS = 64
_ADD_ONE = """
insert into counts as old (video_id, event_type, count) values ($1, $2, 1)
on conflict (video_id, event_type) do update set count = old.count + 1"""


class PostgresSingle(Store):
    """Many callers over a pool of connections: their commits share the fsyncs."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def send(self, request: Request) -> None:
        for video, event_type in zip(request.video.tolist(), request.event_type.tolist(), strict=True):
            await self._pool.execute(_ADD_ONE, request.video_ids[video], EVENT_TYPES[event_type])

    async def find_fault(self, counts_are_exact: Callable[[Counts], str | None]) -> str | None:
        return counts_are_exact(await read_counts(self._pool))


@asynccontextmanager
async def open_postgres_single(folder: Path) -> AsyncIterator[Store]:
    """Run Postgres and connect to it."""
    async with open_counting_postgres(folder / "postgres") as dsn, open_client(dsn) as store:
        yield store


@asynccontextmanager
async def open_client(dsn: str) -> AsyncIterator[Store]:
    """Connect to a Postgres with the tables."""
    async with open_connections(dsn, _CONNECTIONS) as pool:
        yield PostgresSingle(pool)
