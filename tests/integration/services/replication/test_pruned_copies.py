"""Copies of counts that nobody sees are removed, at a cost of their own size."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest_asyncio

from services.replication.rollup_store import prune_copies
from tests.support.regions import region_database
from tests.support.servers import Servers

SEEN, UNKNOWN = uuid.UUID(int=1), uuid.UUID(int=2)
PUT = """
insert into replication.received_rollup
    (device, copy, video_id, event_type, minute, generation, count, value_count, sum, min, max, m2)
select $1, $2, 'video ' || n, 'view', 0, 1, 1, 0, 0, null, null, 0 from generate_series(1, $3::int) as n"""
ROWS = "select device, copy, count(*)::int from replication.received_rollup group by 1, 2 order by 1, 2"
READ = """
select coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) from pg_stat_xact_user_tables
where relname = 'received_rollup'"""


@pytest_asyncio.fixture
async def database(servers: Servers, template: str) -> AsyncIterator[Any]:
    async with region_database(servers.postgres_dsn, template) as dsn:
        connection = await asyncpg.connect(dsn)
        try:
            yield connection
        finally:
            await connection.close()


async def put_copies(database: Any, live: int, dead: int) -> None:
    for device, copy, rows in ((SEEN, 1, dead), (SEEN, 2, live), (SEEN, 3, live), (UNKNOWN, 1, dead)):
        await database.execute(PUT, device, copy, rows)
    await database.execute(
        """insert into replication.watermark (device, model, epoch, snapshot, word, as_of, copy)
        values ($1, 'rollup', 1, '1:1:', 0, now(), 2)""",
        SEEN,
    )
    await database.execute(
        "insert into replication.rollup_load (device, copy, epoch, begun_at, word) values ($1, 3, 1, '1:1:', 0)",
        SEEN,
    )


async def test_copies_that_nobody_sees_are_removed_in_batches_and_no_others(database: Any) -> None:
    await put_copies(database, live=5, dead=25)
    removed = []
    while count := await prune_copies(database, 10):
        removed.append(count)
    assert removed == [10, 10, 5, 10, 10, 5]
    assert [tuple(row) for row in await database.fetch(ROWS)] == [(SEEN, 2, 5), (SEEN, 3, 5)]


async def test_a_batch_reads_no_rows_of_copies_that_are_seen(database: Any) -> None:
    """Else removing many rows in batches takes time by the square of the table."""
    await put_copies(database, live=2_000, dead=20)
    await database.execute("analyze replication.received_rollup")
    async with database.transaction():
        await database.execute("set local enable_seqscan = off")  # as for a table that is large
        while await prune_copies(database, 10):
            pass
        assert await database.fetchval(READ) < 500
