"""Real Postgres and Valkey for the tests: one pair for the run, one database a test, and some to break.

`open_servers` holds the pair that a session-wide fixture keeps; it and its folder end with the run, since a
server ends with its parent. `fresh_database` makes a test's own database. A `Breakable` is a server that a
fault test may kill, freeze and start again.
"""

import asyncio
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from libs.embedded.postgres import EmbeddedPostgresSettings, open_postgres
from libs.embedded.sockets import open_socket_folder
from libs.embedded.valkey import open_valkey
from tests.support.database import make_template

_MEMORY = Path("/dev/shm")  # noqa: S108 - the folder in it has a random name and is ours alone
_MEMORY_NEEDED_BYTES = 3 * 1024**3
"""of one pair: the databases of the tests under way, 512 MB of write-ahead log, and room for a large test"""
_PREFIX = "tally-tests-"
_SHARED_POSTGRES = EmbeddedPostgresSettings(max_wal_size_mb=512)
_originals: "list[tempfile.TemporaryDirectory[str]]" = []
"""one at most: a stopped cluster whose database has the schema"""


@dataclass(frozen=True, slots=True)
class Servers:
    postgres_dsn: str
    valkey_url: str


@asynccontextmanager
async def open_servers() -> AsyncIterator[Servers]:
    """The pair for a whole run; the database in its DSN has the schema. In memory where there is room, for to make a
    database is mostly to wait until its files are on disk."""
    with _make_folder() as folder:
        await copy_cluster(Path(folder) / "postgres")
        async with (
            open_postgres(Path(folder) / "postgres", settings=_SHARED_POSTGRES) as dsn,
            open_valkey(Path(folder) / "valkey") as url,
        ):
            yield Servers(dsn, url)


async def copy_cluster(data_dir: Path) -> None:
    """Fill the data folder of a Postgres: its database has the schema already, so that its first start is a short one.

    The first copy in a process makes the original.
    """
    if not _originals:
        folder = _make_folder()
        async with open_postgres(Path(folder.name), settings=_SHARED_POSTGRES) as dsn:
            await make_template(dsn)
        _originals.append(folder)
    await asyncio.to_thread(shutil.copytree, Path(_originals[0].name) / "pgdata", data_dir / "pgdata")


def _make_folder() -> "tempfile.TemporaryDirectory[str]":
    memory = _MEMORY if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) else None
    if memory is not None:
        for leftover in memory.glob(f"{_PREFIX}*"):  # of a run that was killed
            if not Path("/proc", leftover.name.split("-")[2]).exists():
                shutil.rmtree(leftover, ignore_errors=True)
        if shutil.disk_usage(memory).free < _MEMORY_NEEDED_BYTES:
            memory = None
    return tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-", dir=memory)


@asynccontextmanager
async def fresh_database(dsn: str, template: str = "template1") -> AsyncIterator[str]:
    """A copy of the database `template`; yields its DSN, and drops it with whoever is still connected.

    Nobody may be connected to the template.
    """
    name = f"test_{uuid.uuid4().hex}"
    await _execute(dsn, f"create database {name} template {template}")
    try:
        yield urlsplit(dsn)._replace(path=f"/{name}").geturl()
    finally:
        await _execute(dsn, f"drop database {name} with (force)")


def name_of(dsn: str) -> str:
    """The name of the database in a DSN."""
    return urlsplit(dsn).path.removeprefix("/")


@dataclass(slots=True)
class Breakable:
    """A server of one test: `url` is its DSN or URL while it was last started, the same at each start."""

    _open: Callable[[], AbstractAsyncContextManager[str]]
    _pid_file: Path
    url: str = ""
    _running: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def pid(self) -> int:
        return int(self._pid_file.read_text().splitlines()[0])

    async def start(self) -> None:
        """Start it on its data folder, after a stop or a kill."""
        await self.stop()
        self.url = await self._running.enter_async_context(self._open())

    async def stop(self) -> None:
        await self._running.aclose()

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


@asynccontextmanager
async def breakable_postgres(
    settings: EmbeddedPostgresSettings | None = None, *, is_migrated: bool = False
) -> AsyncIterator[Breakable]:
    """Started, and alone on its data. A frozen postmaster takes no connections; those that are open go on."""
    with tempfile.TemporaryDirectory(prefix="tally-tests-") as folder:
        data = Path(folder)
        if is_migrated:
            await copy_cluster(data)
        with open_socket_folder(data) as sockets:
            server = Breakable(
                lambda: open_postgres(data, settings=settings, sockets=sockets),
                data / "pgdata" / "postmaster.pid",
            )
            async with _started(server) as it:
                yield it


@asynccontextmanager
async def breakable_valkey() -> AsyncIterator[Breakable]:
    """Started, and empty after each start."""
    with tempfile.TemporaryDirectory(prefix="tally-tests-") as folder:
        data = Path(folder)
        with open_socket_folder(data) as sockets:
            server = Breakable(lambda: open_valkey(data, sockets=sockets), data / "valkey.pid")
            async with _started(server) as it:
                yield it


@asynccontextmanager
async def _started(server: Breakable) -> AsyncIterator[Breakable]:
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def _execute(dsn: str, statement: str) -> None:
    # Neither the template nor the database that goes may be the one connected to.
    connection = await asyncpg.connect(dsn, database="postgres")
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
