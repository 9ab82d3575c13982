"""A pool of connections for reads and upkeep, in which every wait has a time limit."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from libs.stores.postgres import AWAY, PostgresSettings
from tally.contract.errors import NotReady

# The server cancels a statement itself before we stop waiting for it: then the cause is known, and a client that is
# frozen leaves nothing running.
_SERVER_SHARE = 0.9
# Those of asyncpg.create_pool, which takes no class of pools.
_POOL_DEFAULTS: Mapping[str, Any] = {
    "init_size": None,
    "max_queries": 50_000,
    "max_inactive_connection_lifetime": 300.0,
    "connect": None,
    "setup": None,
    "init": None,
    "reset": None,
    "loop": None,
    "record_class": asyncpg.Record,
}


class _Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """A connection that keeps its session state when it is given back, so a use costs no further round trip.

    An open transaction is rolled back all the same. Whatever outlasts transactions belongs into `session`.
    """

    def get_reset_query(self) -> str:
        return ""


class _Pool(asyncpg.Pool):  # type: ignore[misc]  # asyncpg has no types
    """A pool in which waiting for a free connection, and resetting one that is given back, have a time limit too."""

    def __init__(self, *arguments: Any, acquire_seconds: float, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._acquire_seconds = acquire_seconds

    def acquire(self, *, timeout: float | None = None) -> Any:
        return super().acquire(timeout=self._acquire_seconds if timeout is None else timeout)


@asynccontextmanager
async def session(pool: Any) -> AsyncIterator[Any]:
    """A connection for session settings and advisory locks; it is closed afterwards, and they end with it."""
    async with pool.acquire() as connection:
        try:
            yield connection
        finally:
            await connection.close()


@asynccontextmanager
async def open_pool(
    dsn: str,
    settings: PostgresSettings,
    name: str,
    *,
    statement_seconds: float | None = None,
    server_settings: Mapping[str, str] | None = None,
    is_needed_at_start: bool = True,
) -> AsyncIterator[Any]:
    """Open a pool for reads and upkeep. Raises NotReady when Postgres cannot be reached, if it is needed at the start.

    One that is not connects when it is first used, and raises what is in AWAY then.

    A statement that takes longer than `statement_seconds` (unset: as in the settings) is cancelled by the server, and
    raises TimeoutError when that is silent.
    """
    seconds = settings.statement_timeout_seconds if statement_seconds is None else statement_seconds
    try:
        pool = _Pool(
            dsn,
            acquire_seconds=settings.connect_timeout_seconds,
            min_size=int(is_needed_at_start),
            max_size=settings.pool_size,
            timeout=settings.connect_timeout_seconds,
            command_timeout=seconds,
            server_settings={
                "application_name": name,
                "timezone": "UTC",
                "statement_timeout": f"{int(seconds * _SERVER_SHARE * 1000)}ms",
                **(server_settings or {}),
            },
            connection_class=_Connection,
            **_POOL_DEFAULTS,
        )
        await pool
    except (*AWAY, ValueError) as error:
        raise NotReady(
            f"cannot reach Postgres: {error}. Check TALLY_POSTGRES__DSN and that it is up"
        ) from error
    try:
        yield pool
    finally:
        # close() waits for every borrower; one that hangs with the server must not block the shutdown.
        try:
            await asyncio.wait_for(pool.close(), timeout=settings.connect_timeout_seconds)
        except AWAY:
            pool.terminate()
