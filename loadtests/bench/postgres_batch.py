"""Peer (c): Postgres, one transaction a request: a row that drops a repeated request id, and a sorted upsert.

All of it is one statement, so it costs one round trip; the client sums the pairs first.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from loadtests.bench.contender import Store
from loadtests.bench.counter import CountedByClient
from loadtests.bench.events import Pairs
from loadtests.bench.oracle import Counts
from loadtests.bench.postgres import open_connections, open_counting_postgres, read_counts

LACKS = (
    "time windows",
    "a recount: raw events are not kept",
    "values",
    "an end to the request ids that it keeps",
)
_CONNECTIONS = 32
# Sorted, or two requests that meet the same pairs in different orders wait for each other in a circle.
_ADD = """
with fresh as (
    insert into request (id) values ($1) on conflict do nothing returning id
)
insert into counts as old (video_id, event_type, count)
select video_id, event_type, count
from unnest($2::text[], $3::text[], $4::bigint[]) as pair (video_id, event_type, count), fresh
order by video_id collate "C", event_type collate "C"
on conflict (video_id, event_type) do update set count = old.count + excluded.count"""


class PostgresCounter:
    """Counts pairs under a request id, once."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def add(self, request_id: str, pairs: Pairs) -> bool:
        """False when the id was there before, and nothing was added."""
        done: str = await self._pool.execute(
            _ADD, request_id, pairs.video_ids, pairs.event_types, pairs.counts
        )
        return done != "INSERT 0 0"

    async def counts(self) -> Counts:
        """Everything."""
        return await read_counts(self._pool)


@asynccontextmanager
async def open_counter(dsn: str) -> AsyncIterator[PostgresCounter]:
    """Connect."""
    async with open_connections(dsn, _CONNECTIONS) as pool:
        yield PostgresCounter(pool)


@asynccontextmanager
async def open_postgres_batch(folder: Path) -> AsyncIterator[Store]:
    """Run Postgres and connect to it."""
    async with open_counting_postgres(folder / "postgres") as dsn, open_counter(dsn) as counter:
        yield CountedByClient(counter)
