"""The processes of a cluster, which the supervisor starts, watches, and restarts."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from libs.embedded import postgres, valkey
from libs.embedded.process import Process
from libs.embedded.sockets import open_socket_folder
from libs.rpc.probe import is_serving
from libs.rpc.security.tls import ChannelTlsSettings
from libs.runtime.supervisor import Died
from services.devcluster.topology import POSTGRES, VALKEY, Place
from services.settings import EmbeddedSettings
from tally.contract.errors import NotReady

WATCH_SECONDS = 0.1
_POLL_SECONDS = 0.05
_ASK_SECONDS = 2.0
_START_SECONDS = 120.0
# The drain delay, the grace of the server, the last flush and the end of the spool, each at its longest.
_STOP_SECONDS = 60.0
_KILL_SECONDS = 5.0
# A pool or two for each process, and some for those who look on.
_CONNECTIONS_OF_A_PROCESS = 24


class Stores:
    """The embedded Postgres and Valkey: their addresses, the same at each start."""

    def __init__(
        self, stack: AsyncExitStack, folder: Path, settings: EmbeddedSettings, service_processes: int
    ) -> None:
        """`stack` closes what the stores leave behind when the cluster ends."""
        self.dsn = ""
        self.valkey_url = ""
        self._folder = folder
        self._settings = settings
        self._least_connections = service_processes * _CONNECTIONS_OF_A_PROCESS
        self._sockets = {
            name: stack.enter_context(open_socket_folder(folder / name)) for name in (POSTGRES, VALKEY)
        }
        self._has_data = False

    @asynccontextmanager
    async def open_postgres(self, died: Died) -> AsyncIterator[int]:
        """A life of Postgres; yields its pid. Raises NotReady also if its data are gone: never makes new ones."""
        folder, settings = self._folder / POSTGRES, self._settings.postgres
        if self._has_data and not (folder / "pgdata").exists():
            raise NotReady(f"{folder / 'pgdata'} was removed while Postgres used it. Stop the cluster.")
        connections = max(self._least_connections, settings.max_connections)
        settings = settings.model_copy(update={"max_connections": connections})
        sockets = self._sockets[POSTGRES]
        async with postgres.open_postgres(folder, settings=settings, on_death=died, sockets=sockets) as dsn:
            self.dsn = dsn
            self._has_data = True
            yield postgres.read_pid(folder / "pgdata") or 0

    @asynccontextmanager
    async def open_valkey(self, died: Died) -> AsyncIterator[int]:
        """A life of Valkey; yields its pid."""
        folder, settings = self._folder / VALKEY, self._settings.valkey
        sockets = self._sockets[VALKEY]
        async with valkey.open_valkey(folder, settings=settings, on_death=died, sockets=sockets) as url:
            self.valkey_url = url
            yield valkey.read_pid(folder)


@asynccontextmanager
async def open_service(
    place: Place,
    folder: Path,
    log: Path,
    variables: Mapping[str, str],
    tls: ChannelTlsSettings,
    died: Died,
) -> AsyncIterator[int]:
    """A life of a service process in `folder`, with `variables` on top of our own environment; yields its pid."""
    process = Process.start(
        place.name,
        [sys.executable, "-m", "services", place.service.name],
        folder=folder,
        log=log,
        death_signal=signal.SIGKILL,  # no time for an orderly end: what a shard had not flushed is in the journal
        environment={**os.environ, **variables},
    )
    try:
        await process.wait_until(lambda: takes_calls(place, tls), _START_SECONDS, every_seconds=_POLL_SECONDS)
        async with process.watch(died, every_seconds=WATCH_SECONDS):
            yield process.pid
    finally:
        await process.stop([(signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, _KILL_SECONDS)])


async def takes_calls(place: Place, tls: ChannelTlsSettings) -> bool:
    """Whether the process says that it is serving."""
    host, _, port = place.address.rpartition(":")
    try:
        async with asyncio.timeout(_ASK_SECONDS):
            _, writer = await asyncio.open_connection(host, int(port))  # cheaper than to let gRPC find out
        writer.close()
    except OSError:
        return False
    return await is_serving(place.address, place.service.health, _ASK_SECONDS, tls)
