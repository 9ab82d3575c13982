"""Wake-ups across processes: a notification after a commit, and the connection that receives those of others.

It is sent after the commit and by itself: within the writing transaction it would take a lock of the whole database
until the commit is on disk (T003-46). Polling covers missed ones a moment later.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from libs.stores.postgres import AWAY, PostgresSettings, connect

_CHANNEL = "tally_replication"
_NOTIFY = f"select pg_notify('{_CHANNEL}', '')"
_GATHER_SECONDS = 0.05
_LISTEN_SECONDS = 5.0


class Announcer:
    """Tells other processes that something was committed, once for all commits of a moment."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._committed = asyncio.Event()

    def announce(self) -> None:
        """Something was committed."""
        self._committed.set()

    async def run(self) -> None:
        """Notify, again and again."""
        while True:
            await self._committed.wait()
            await asyncio.sleep(_GATHER_SECONDS)
            self._committed.clear()
            with suppress(*AWAY):
                await self._pool.execute(_NOTIFY)


class Listener:
    """Calls `wake` at each notification."""

    def __init__(self, dsn: str, postgres: PostgresSettings, wake: Callable[[], None]) -> None:
        self._dsn = dsn
        self._postgres = postgres
        self._wake = wake
        self._connection: Any = None
        self._is_closed = False

    async def turn(self) -> None:
        """Make sure that a connection is open. Raises the errors in AWAY."""
        if self._is_closed or (self._connection is not None and not self._connection.is_closed()):
            return
        self._connection = await connect(self._dsn, self._postgres, "tally replication listener")
        if self._is_closed:  # meanwhile
            self._connection.terminate()
            return
        async with asyncio.timeout(_LISTEN_SECONDS):
            await self._connection.add_listener(_CHANNEL, lambda *_: self._wake())
        self._wake()

    def close(self) -> None:
        """Cut the connection. A turn that comes later opens none."""
        self._is_closed = True
        if self._connection is not None:
            self._connection.terminate()
