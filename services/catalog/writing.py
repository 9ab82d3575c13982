"""Transactions that change the record: one connection of the catalog's own pool, one change number each."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import structlog

from libs.stores.postgres import AWAY, make_durable, reaching_postgres
from services.catalog.feed import notify

_LOGGER = structlog.get_logger(__name__)

WRITE_SECONDS = 15.0


class Writing:
    """Opens transactions for writes, and wakes the replicas after the commits."""

    def __init__(self, pool: Any, notify_seconds: float) -> None:
        self._pool = pool
        self._notify_seconds = notify_seconds
        self._notifying: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """A transaction on a connection. Raises Unavailable if Postgres is unreachable; it may be committed then.

        A serialization failure or a deadlock is Unavailable too: nothing was done, and the same may be sent again.
        """
        with reaching_postgres():
            async with (
                asyncio.timeout(WRITE_SECONDS),
                self._pool.acquire() as connection,
                connection.transaction(),
            ):
                await make_durable(connection, until_end_of_transaction=True)
                yield connection
        if self._notifying is None:
            self._notifying = asyncio.create_task(self._notify_soon())

    async def close(self) -> None:
        """Send the last notification."""
        if self._notifying is not None:
            await self._notifying

    async def _notify_soon(self) -> None:
        await asyncio.sleep(self._notify_seconds)
        self._notifying = None  # a commit from here on needs another one
        try:
            await notify(self._pool)
        except AWAY as error:
            _LOGGER.warning("replicas were not notified; they will ask by themselves", error=str(error))


def constraint_of(error: asyncpg.IntegrityConstraintViolationError) -> str:
    """The name of the constraint that a row violates."""
    return error.constraint_name or ""
