"""Wake-ups for calls that wait for due work, in this process and in the other schedulers.

Postgres carries them (listen/notify). They are hints: one that is lost costs at most a poll.
"""

import asyncio
from contextlib import suppress
from typing import Any

import structlog

from libs.stores.postgres import AWAY, PostgresSettings, connect

_LOGGER = structlog.get_logger(__name__)
_CHANNEL = "tally_scheduler"
_NOTIFY = f"select pg_notify('{_CHANNEL}', '')"
_RECONNECT_SECONDS = 1.0


async def notify(connection: Any) -> None:
    """Wake every scheduler when the transaction of this connection is committed."""
    await connection.execute(_NOTIFY)


class Bell:
    """A signal for any number of waiters. `count` distinguishes one signal from the next."""

    def __init__(self) -> None:
        self.count = 0
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake all who wait now."""
        self.count += 1
        self._rung.set()
        self._rung = asyncio.Event()

    async def wait(self, seen: int, seconds: float) -> None:
        """Until it has rung more often than `seen`, or for so long."""
        if self.count == seen:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._rung.wait()


class Listener:
    """Hears the notifications of all schedulers over a connection of its own, while the process runs."""

    def __init__(self, dsn: str, postgres: PostgresSettings, heard: Bell) -> None:
        self._dsn = dsn
        self._postgres = postgres
        self._heard = heard

    async def run(self) -> None:
        """Listen, and connect again whenever the connection ends."""
        while True:
            try:
                await self._listen()
            except AWAY as error:
                _LOGGER.warning("wake-ups not heard; will reconnect, polling meanwhile", error=str(error))
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _listen(self) -> None:
        connection = await connect(self._dsn, self._postgres, "tally scheduler wake-ups")
        ended = asyncio.Event()
        try:
            connection.add_termination_listener(lambda _: ended.set())
            await connection.add_listener(_CHANNEL, lambda *_: self._heard.ring())
            self._heard.ring()  # for what was missed before
            await ended.wait()
        finally:
            connection.terminate()
