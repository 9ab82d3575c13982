"""The connection that receives notifications of commits. Polling covers missed notifications a moment later."""

import asyncio
from collections.abc import Callable
from typing import Any

from libs.stores.postgres import PostgresSettings, connect
from services.catalog.feed import CHANNEL

_LISTEN_SECONDS = 5.0


class Listener:
    """Calls `wake` at each notification."""

    def __init__(self, dsn: str, postgres: PostgresSettings, wake: Callable[[], None]) -> None:
        self._dsn = dsn
        self._postgres = postgres
        self._wake = wake
        self._connection: Any = None

    async def turn(self) -> None:
        """Make sure that a connection is open. Raises the errors in AWAY."""
        if self._connection is not None and not self._connection.is_closed():
            return
        self._connection = await connect(self._dsn, self._postgres, "tally catalog listener")
        async with asyncio.timeout(_LISTEN_SECONDS):
            await self._connection.add_listener(CHANNEL, lambda *_: self._wake())
        self._wake()

    def close(self) -> None:
        """Cut the connection."""
        if self._connection is not None:
            self._connection.terminate()
