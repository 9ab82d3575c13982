"""The schema in a test's database."""

import asyncpg

from libs.stores.schema import migrate
from services.counting.recovery.partitions import keep_partitions
from services.migrations import list_migrations

PARTITION_COUNT = 4
"""Few, so that a handful of videos meets every partition and each test has small plans."""


async def make_template(dsn: str) -> None:
    """Migrate a database, and make its journal partitions, which takes longer than copying them."""
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
        async with pool.acquire() as connection:
            await migrate(connection, PARTITION_COUNT, list_migrations())
        await keep_partitions(pool, ahead_hours=48)
