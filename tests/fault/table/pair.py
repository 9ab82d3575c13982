"""A Postgres primary and its synchronous standby, both from the wheel, behind one DSN that names the two.

The standby is a copy of the primary's data (pg_basebackup) that follows it. From then on no commit of the primary is
answered before the standby has it on disk. Whoever connects is led to the one that takes writes.
"""

import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import asyncpg

from libs.embedded.identity import choose_identity
from libs.embedded.postgres import PORT, EmbeddedPostgresSettings, find_binaries
from libs.embedded.process import Process
from tests.support.eventually import eventually
from tests.support.servers import Breakable, breakable_postgres

_STANDBY = "standby"
_STOP = [(signal.SIGINT, 20.0), (signal.SIGKILL, 10.0)]
_IS_SYNCHRONOUS = "select true from pg_stat_replication where sync_state = 'sync' and state = 'streaming'"
_WAITERS = """
select pid from pg_stat_activity where wait_event = 'SyncRep' and application_name like 'tally counting %'"""


@dataclass(slots=True)
class Pair:
    """The two servers. `standby` starts and stops; it takes writes once it is promoted."""

    primary: Breakable
    standby: "Standby"

    @property
    def dsn(self) -> str:
        """Leads to whichever of the two takes writes."""
        folders = f"{_folder_of(self.primary.url)},{self.standby.sockets}"
        return (
            f"postgresql://tally@/tally?host={quote(folders, safe='/,')}&port={PORT},{PORT}"
            "&target_session_attrs=read-write"
        )

    async def cancel_waits(self) -> int:
        """Cancel each commit of a shard that waits for the standby: it is answered with success, and a WARNING."""
        connection = await asyncpg.connect(self.primary.url)
        try:
            pids = [row["pid"] for row in await connection.fetch(_WAITERS)]
            for pid in pids:
                await connection.execute("select pg_cancel_backend($1)", pid)
            return len(pids)
        finally:
            connection.terminate()

    async def synchronize(self) -> None:
        """Wait until the standby follows, and let no commit be answered without it."""
        connection = await asyncpg.connect(self.primary.url)

        async def is_synchronous() -> bool:
            return bool(await connection.fetchval(_IS_SYNCHRONOUS))

        try:
            await connection.execute(f"alter system set synchronous_standby_names = '{_STANDBY}'")
            await connection.execute("select pg_reload_conf()")
            await eventually(is_synchronous, 30.0)
        finally:
            connection.terminate()


class Standby:
    """A server on a copy of the primary's data."""

    def __init__(self, folder: Path, sockets: Path) -> None:
        self.sockets = sockets
        self._folder = folder
        self._data = folder / "pgdata"
        self._log = folder / "standby.log"
        self._process: Process | None = None

    @property
    def dsn(self) -> str:
        return f"postgresql://tally@/tally?host={quote(str(self.sockets))}&port={PORT}"

    async def copy(self, primary_dsn: str) -> None:
        """Make the data folder from a running primary."""
        self._log.touch()
        self._identity = await choose_identity(
            self._folder, self._data, find_binaries() / "postgres", self._log
        )
        conninfo = f"host={_folder_of(primary_dsn)} port={PORT} user=tally application_name={_STANDBY}"
        copying = Process.start(
            "pg_basebackup",
            [
                find_binaries() / "pg_basebackup",
                f"--pgdata={self._data}",
                f"--dbname={conninfo}",
                "--write-recovery-conf",
                "--checkpoint=fast",
                "--no-sync",
            ],
            folder=self._folder,
            log=self._log,
            death_signal=signal.SIGTERM,
            identity=self._identity.name,
        )
        await copying.finish(120.0)

    async def start(self) -> None:
        """Start it and wait until it answers reads."""
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        values = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.sockets),
            "unix_socket_permissions": "0700",
            "port": str(PORT),
            "shared_buffers": "64MB",
            "max_wal_size": "1GB",
            "max_connections": "250",
            "jit": "off",
            "timezone": "UTC",
        }
        self._process = Process.start(
            "the standby",
            [
                find_binaries() / "postgres",
                "-D",
                self._data,
                *(part for name, value in values.items() for part in ("-c", f"{name}={value}")),
            ],
            folder=self._data,
            log=self._log,
            death_signal=signal.SIGINT,
            identity=self._identity.name,
        )

        async def answers() -> bool:
            try:
                await (await asyncpg.connect(self.dsn)).close()
            except (OSError, asyncpg.PostgresError):
                return False
            return True

        await self._process.wait_until(answers, 60.0)

    async def stop(self) -> None:
        if self._process is not None:
            await self._process.stop(_STOP)

    async def promote(self) -> None:
        """Let it take writes; returns when it does."""
        connection = await asyncpg.connect(self.dsn)
        try:
            assert await connection.fetchval("select pg_promote(true, 60)")
        finally:
            connection.terminate()


@asynccontextmanager
async def open_pair(settings: EmbeddedPostgresSettings) -> AsyncIterator[Pair]:
    """Both started, and the standby synchronous."""
    async with breakable_postgres(settings) as primary:
        folder = Path(tempfile.mkdtemp(prefix="tally-standby-"))
        try:
            (folder / "sockets").mkdir()
            standby = Standby(folder, folder / "sockets")
            await standby.copy(primary.url)
            await standby.start()
            try:
                pair = Pair(primary, standby)
                await pair.synchronize()
                yield pair
            finally:
                await standby.stop()
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _folder_of(dsn: str) -> str:
    """The folder of the unix socket in a DSN: the real one, for a process of another user namespace."""
    return str(Path(parse_qs(urlsplit(dsn).query)["host"][0]).resolve())
