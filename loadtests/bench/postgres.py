"""Postgres as a peer: the same server with the same settings as Tally's own, and one table of counts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg

from libs.embedded.postgres import open_postgres
from loadtests.bench.oracle import Counts

_SCHEMA = """
create table request (id uuid primary key, received_at timestamptz not null default now());
create table counts (
    video_id   text collate "C" not null,
    event_type text collate "C" not null,
    count      bigint not null,
    primary key (video_id, event_type)
) with (fillfactor = 80)"""
_ALL = "select video_id, event_type, count from counts"


@asynccontextmanager
async def open_counting_postgres(folder: Path) -> AsyncIterator[str]:
    """Run Postgres and make the tables; yields its DSN."""
    async with open_postgres(folder) as dsn:
        await make_tables(dsn)
        yield dsn


async def make_tables(dsn: str) -> None:
    """In an empty database."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(_SCHEMA)
    finally:
        await connection.close()


@asynccontextmanager
async def open_connections(dsn: str, count: int) -> AsyncIterator[Any]:
    """So many connections, all of them open."""
    async with asyncpg.create_pool(dsn, min_size=count, max_size=count) as pool:
        yield pool


async def read_counts(pool: Any) -> Counts:
    """Every row."""
    rows = await pool.fetch(_ALL)
    return Counts(*([row[at] for row in rows] for at in range(3)))
