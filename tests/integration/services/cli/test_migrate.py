from urllib.parse import urlsplit

from services.cli.failure import REFUSED, UNKNOWN, USAGE
from tests.support.glitch import install_glitch, set_clock
from tests.support.proof import open_proof
from tests.support.servers import Servers, fresh_database
from tests.support.terminal import run


async def test_a_new_database_is_migrated_once(servers: Servers) -> None:
    async with fresh_database(servers.postgres_dsn) as dsn:
        first = await run("migrate", TALLY_POSTGRES__DSN=dsn)
        assert (first.exit_code, first.err) == (0, "")
        assert "0001_counting" in first.out.splitlines()
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


async def test_a_database_that_is_missing_is_refused_by_postgres(servers: Servers) -> None:
    nowhere = urlsplit(servers.postgres_dsn)._replace(path="/nowhere").geturl()
    refused = await run("migrate", TALLY_POSTGRES__DSN=nowhere)
    assert refused.exit_code == REFUSED
    assert refused.err == 'tally: Postgres refused: database "nowhere" does not exist\n'


async def test_postgres_that_is_away_is_told_from_one_that_refuses() -> None:
    away = await run("migrate", TALLY_POSTGRES__DSN="postgresql://127.0.0.1:1/postgres")
    assert away.exit_code == UNKNOWN
    assert away.err.startswith("tally: cannot reach Postgres: ")
    assert "Traceback" not in away.err


async def test_a_dsn_that_is_none_is_wrong_usage() -> None:
    wrong = await run("migrate", TALLY_POSTGRES__DSN="mysql://127.0.0.1/tally")
    assert wrong.exit_code == USAGE
    assert wrong.err.startswith("tally: TALLY_POSTGRES__DSN cannot be used: ")
