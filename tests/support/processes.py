"""Services in processes of their own, to be killed and frozen."""

import asyncio
import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from services.registry import BY_NAME
from tally.client import TallyError
from tests.support.database import PARTITION_COUNT
from tests.support.eventually import eventually
from tests.support.preloaded import Preloaded, Running
from tests.support.reach import open_client, variables

FAST = {
    "TALLY_COUNTING__RECOVERY__HEARTBEAT_SECONDS": "0.2",
    "TALLY_COUNTING__RECOVERY__TAKEOVER_SECONDS": "2",
    "TALLY_COUNTING__RECOVERY__STATEMENT_TIMEOUT_SECONDS": "1.5",
    "TALLY_COUNTING__RECOVERY__TRANSACTION_TIMEOUT_SECONDS": "1.5",
}
"""What a counting process needs so that a takeover comes soon."""
NO_FLUSH = {"TALLY_COUNTING__FLUSH__INTERVAL_SECONDS": "30"}
"""What keeps a counting process from flushing while a test lives."""


@dataclass(slots=True)
class ServiceProcess:
    """One process and where its service is reached."""

    address: str
    process: Running

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def run_service(
    name: str,
    dsn: str,
    valkey_url: str,
    folder: Path,
    *,
    shards: Sequence[str] = (),
    address: str = "",
    env: Mapping[str, str] | None = None,
    is_fork: bool = True,
) -> AsyncIterator[ServiceProcess]:
    """Run one service, at a free port or where it was before; it is killed at the end unless it has ended by then.

    Where its memory is measured it must not be a fork, whose memory is that of its parent too.
    """
    address = address or f"127.0.0.1:{free_port()}"
    settings = {
        "TALLY_DATA_DIR": str(folder),
        "TALLY_SERVER__ADDRESS": address,
        "TALLY_POSTGRES__DSN": dsn,
        "TALLY_VALKEY__URL": valkey_url,
        "TALLY_PARTITION_COUNT": str(PARTITION_COUNT),
        "TALLY_PARTITIONER__SHARDS": "[" + ",".join(f'"{shard}"' for shard in shards) + "]",
    }
    log = folder / f"{name}-{address.rpartition(':')[2]}.log"
    process = _start(name, {**os.environ, **settings, **variables(), **(env or {})}, log, is_fork=is_fork)
    try:
        await until_serving(process, address, name, log)
        yield ServiceProcess(address, process)
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


def _start(name: str, env: Mapping[str, str], log: Path, *, is_fork: bool) -> Running:
    if is_fork:
        return Preloaded(["up", name], env, stdin=Path(os.devnull), stdout=log, stderr=log)
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - our own code
            [sys.executable, "-m", "services", name], env=env, stdout=output, stderr=subprocess.STDOUT
        )


async def until_serving(process: Running, address: str, name: str, log: Path) -> None:
    """Wait until the service of that name serves there. Fails, with the log, when its process ends."""

    async def is_serving() -> bool:
        assert process.poll() is None, f"{name} ended: {log.read_text()}"
        try:
            async with open_client(address, timeout=1.0) as client:
                return await client.health(BY_NAME[name].health) == "SERVING"
        except TallyError:
            return False

    await eventually(is_serving, 30.0)


# Below what the kernel gives to outgoing connections, and apart from those of other test processes: nobody takes
# the port between now and the start of the service.
_PORTS = itertools.count(10_000 + os.getpid() % 200 * 100)


def free_port() -> int:
    """A port of 127.0.0.1 for a service that this process starts; a different one each time."""
    for port in _PORTS:
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise AssertionError("count never ends")


async def stop(process: ServiceProcess) -> None:
    """SIGTERM, and wait for an orderly end."""
    process.process.terminate()
    code = await asyncio.to_thread(process.process.wait, 30)
    assert code == 0
