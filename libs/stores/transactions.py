"""Transactions of calls: definitely committed, or an error after which the same call may be retried."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from libs.stores.postgres import reaching_postgres
from tally.contract.errors import Unavailable

_WEAK = "select current_setting('synchronous_commit') in ('off', 'local', 'remote_write')"
# A deadlock, a lock that was not had in time, or a request that is being answered by another call right now.
_AGAIN = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.UniqueViolationError,
)


@asynccontextmanager
async def transaction(pool: Any) -> AsyncIterator[Any]:
    """A connection in a transaction, which is committed at the end, or rolled back by an exception.

    Raises Unavailable when Postgres is unreachable, or when it is unknown whether the transaction was committed.
    So its statements must be harmless to repeat.
    """
    warnings: list[str] = []

    def note(_connection: Any, message: Any) -> None:
        if message.severity_en == "WARNING":
            warnings.append(str(message))

    try:
        with reaching_postgres():
            async with pool.acquire() as connection:
                connection.add_log_listener(note)
                try:
                    async with connection.transaction():
                        yield connection
                finally:
                    connection.remove_log_listener(note)
    except _AGAIN as error:
        raise Unavailable(f"another call was in the way ({error}); ask again") from error
    if warnings:  # such as a cancelled wait for the synchronous standby, which reports success
        raise Unavailable(f"Postgres did not commit for certain ({'; '.join(warnings)}); ask again")


async def durable_settings(pool: Any) -> dict[str, str]:
    """Server settings with which a commit survives a crash, where the server's default would lose it."""
    return {"synchronous_commit": "on"} if await pool.fetchval(_WEAK) else {}
