"""`tally migrate`."""

import asyncio

import asyncpg

from libs.domain.errors import TallyError
from libs.stores.postgres import connect
from libs.stores.schema import migrate as migrate_schema
from services.cli.configuration import read_settings
from services.cli.failure import REFUSED, UNKNOWN, USAGE, Failure
from services.settings import Settings


def migrate() -> list[str]:
    """Bring the schema of TALLY_POSTGRES__DSN up to date; the names of what was applied. Raises Failure."""
    settings = read_settings()
    if settings.postgres.dsn is None:
        raise Failure(
            "TALLY_POSTGRES__DSN is not set. It says which database to migrate; `tally up` migrates its own",
            USAGE,
        )
    try:
        return asyncio.run(_migrate(settings, settings.postgres.dsn))
    except TallyError as error:
        raise Failure(error.message, REFUSED) from error
    except asyncpg.InterfaceError as error:  # asyncpg's own: the DSN is none
        raise Failure(f"TALLY_POSTGRES__DSN cannot be used: {error}", USAGE) from error
    except asyncpg.PostgresError as error:
        raise Failure(f"Postgres refused: {error}", REFUSED) from error
    except (OSError, TimeoutError) as error:
        raise Failure(
            f"cannot reach Postgres: {error or 'no answer'}. Check TALLY_POSTGRES__DSN and that it is up, and run it "
            "again, which is harmless",
            UNKNOWN,
        ) from error


async def _migrate(settings: Settings, dsn: str) -> list[str]:
    applied: list[str] = []
    connection = await connect(dsn, settings.postgres, "tally migrate")
    try:
        await migrate_schema(connection, settings.partition_count, applied.append)
    finally:
        await connection.close(timeout=settings.postgres.connect_timeout_seconds)
    return applied
