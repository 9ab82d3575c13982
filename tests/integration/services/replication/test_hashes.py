"""The hash of a row is the same in Postgres and here."""

import uuid

import asyncpg

from libs.stores.postgres import PostgresSettings
from services.replication.checks import read_entries
from services.replication.hashing import hash_of
from services.replication.rows import entry_of
from services.replication.transactions import TransactionManager
from tests.support.regions import make_entries

_HASHES = """
select uuid, location, parent, kind, name, size_bytes, modified_at, fingerprint, details, version,
    replication.entry_hash(uuid, location, parent, kind, name, size_bytes, modified_at, fingerprint, details) as hash
from replication.entry"""


async def test_postgres_and_python_hash_a_row_alike_whatever_the_time_zone(dsn: str) -> None:
    """T003-31."""
    location = uuid.uuid4()
    async with asyncpg.create_pool(dsn, min_size=1, max_size=2) as pool:
        transactions = TransactionManager(pool, dsn, PostgresSettings(), 20.0)
        await transactions.put_location(location, "folder", "made")
        entries = make_entries(20)
        entries[1].parent_id, entries[1].details = entries[0].entry_id, '{"ä": 1}'
        await transactions.put_entries(location, read_entries(entries, location))
        async with pool.acquire() as connection:
            await connection.execute("set timezone = 'Asia/Kathmandu'")
            rows = await connection.fetch(_HASHES)
    assert len(rows) == 20
    assert all(row["hash"] == hash_of(entry_of(row)).hex() for row in rows)
