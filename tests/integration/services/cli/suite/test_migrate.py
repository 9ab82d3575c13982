from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from services.cli.terminal.failure import REFUSED, UNKNOWN, USAGE
from tally.contract.errors import NotReady
from tests.support.glitch import install_glitch, set_clock
from tests.support.proof import open_proof
from tests.support.servers import Servers, fresh_database
from tests.support.stack import OpenService, open_stack
from tests.support.terminal import run


async def test_a_new_database_is_migrated_once(servers: Servers) -> None:
    async with fresh_database(servers.postgres_dsn) as dsn:
        first = await run("migrate", TALLY_POSTGRES__DSN=dsn)
        assert (first.exit_code, first.err) == (0, "")
        assert "counting/0001_counting" in first.out.splitlines()
        again = await run("migrate", TALLY_POSTGRES__DSN=dsn)
        assert (again.exit_code, again.out) == (0, "nothing to do\n")


async def test_a_new_cluster_is_not_made_by_a_clock_that_differs_from_postgres(servers: Servers) -> None:
    async with fresh_database(servers.postgres_dsn) as dsn, open_proof(dsn) as connection:
        await install_glitch(connection)
        await set_clock(connection, 40 * 86_400.0)
        refused = await run("migrate", TALLY_POSTGRES__DSN=dsn)
        assert refused.exit_code == REFUSED
        assert "differs from Postgres's by -3,456,000 s" in refused.err
        await set_clock(connection, 0.0)
        assert (await run("migrate", TALLY_POSTGRES__DSN=dsn)).exit_code == 0


async def test_another_partition_count_is_refused(dsn: str) -> None:
    refused = await run("migrate", TALLY_POSTGRES__DSN=dsn, TALLY_PARTITION_COUNT="64")
    assert refused.exit_code == REFUSED
    assert refused.err.startswith("tally: TALLY_PARTITION_COUNT is 64, and this cluster was created with 4.")


async def test_a_schema_of_a_later_version_is_refused_by_everything_that_uses_it(
    open_service: OpenService, dsn: str
) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("insert into public.schema_migration (name) values ('counting/9999_later')")
    await connection.close()
    refused = await run("migrate", TALLY_POSTGRES__DSN=dsn, TALLY_PARTITION_COUNT="4")
    assert refused.exit_code == REFUSED
    assert refused.err.startswith(
        "tally: the schema of the database is of a later version of Tally (counting/9999_later)"
    )
    for name in ("all", "query"):
        with pytest.raises(NotReady, match=r"of a later version of Tally \(counting/9999_later\)"):
            async with open_service(name):
                pass


async def test_a_database_that_is_missing_is_refused_by_postgres(servers: Servers) -> None:
    nowhere = urlsplit(servers.postgres_dsn)._replace(path="/nowhere").geturl()
    refused = await run("migrate", TALLY_POSTGRES__DSN=nowhere)
    assert refused.exit_code == REFUSED
    assert refused.err == 'tally: Postgres refused: database "nowhere" does not exist\n'


@pytest.fixture
async def latin1_dsn(servers: Servers) -> AsyncIterator[str]:
    """A database in which most names have no room."""
    admin = await asyncpg.connect(servers.postgres_dsn, database="postgres")
    await admin.execute(
        "create database latin encoding 'LATIN1' locale_provider libc locale 'C' template template0"
    )
    try:
        yield urlsplit(servers.postgres_dsn)._replace(path="/latin").geturl()
    finally:
        await admin.execute("drop database latin with (force)")
        await admin.close()


async def test_a_database_that_is_not_utf8_is_refused_and_stays_as_it_is(latin1_dsn: str) -> None:
    refused = await run("migrate", TALLY_POSTGRES__DSN=latin1_dsn)
    assert refused.exit_code == REFUSED
    assert refused.err.startswith("tally: the database latin has the encoding LATIN1, and Tally needs UTF8.")
    connection = await asyncpg.connect(latin1_dsn)
    assert await connection.fetchval("select count(*) from pg_tables where schemaname = 'public'") == 0
    await connection.close()


@pytest.mark.parametrize("name", ["all", "partitioner", "counting", "query"])
async def test_no_service_starts_on_a_database_that_is_not_utf8(
    latin1_dsn: str, valkey_url: str, tmp_path: Path, name: str
) -> None:
    with pytest.raises(NotReady, match="has the encoding LATIN1, and Tally needs UTF8"):
        async with open_stack(latin1_dsn, valkey_url, tmp_path, names=(name,)):
            pass


async def test_postgres_that_is_away_is_told_from_one_that_refuses() -> None:
    away = await run("migrate", TALLY_POSTGRES__DSN="postgresql://127.0.0.1:1/postgres")
    assert away.exit_code == UNKNOWN
    assert away.err.startswith("tally: cannot reach Postgres: ")
    assert "Traceback" not in away.err


async def test_a_dsn_that_is_none_is_wrong_usage() -> None:
    wrong = await run("migrate", TALLY_POSTGRES__DSN="mysql://127.0.0.1/tally")
    assert wrong.exit_code == USAGE
    assert wrong.err.startswith("tally: TALLY_POSTGRES__DSN cannot be used: ")
