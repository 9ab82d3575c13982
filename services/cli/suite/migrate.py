"""`tally migrate`."""

import asyncio

from libs.stores.postgres import connect
from libs.stores.schema import migrate as migrate_schema
from services.cli.terminal.configuration import read_settings
from services.cli.terminal.database import read_dsn, using_database
from services.migrations import list_migrations
from services.settings import Settings


def migrate() -> list[str]:
    """Bring the schema of TALLY_POSTGRES__DSN up to date; the names of what was applied. Raises Failure."""
    settings = read_settings()
    dsn = read_dsn(settings, "It says which database to migrate; `tally up` migrates its own")
    with using_database():
        return asyncio.run(_migrate(settings, dsn))


async def _migrate(settings: Settings, dsn: str) -> list[str]:
    applied: list[str] = []
    connection = await connect(dsn, settings.postgres, "tally migrate")
    try:
        await migrate_schema(connection, settings.partition_count, list_migrations(), applied.append)
    finally:
        await connection.close(timeout=settings.postgres.connect_timeout_seconds)
    return applied
