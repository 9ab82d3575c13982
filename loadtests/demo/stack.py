"""A stack of the demo's own: every service in a child process, on stores that end with it."""

import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from libs.embedded.process import Process, Step
from tally.client import Client, TallyError

_ROOT = Path(__file__).parents[2]
_START_SECONDS = 120.0
_STEPS: tuple[Step, ...] = ((signal.SIGTERM, 60.0), (signal.SIGKILL, 10.0))


@asynccontextmanager
async def open_stack(data_dir: Path, log: Path) -> AsyncIterator[str]:
    """Start it with the shipped settings in a new folder under `data_dir`; yields its address.

    The folder goes at the end; `log` stays, and is added to. Raises libs.domain.errors.NotReady, with the end of
    the log. The child gets none of our variables, lest a DSN of the caller's leads to counts that matter; it is
    told when this process dies.
    """
    folder = _make_folder(data_dir)
    address = f"127.0.0.1:{_free_port()}"
    command = [
        shutil.which("env") or "/usr/bin/env",
        f"PYTHONPATH={_ROOT}",
        f"TALLY_DATA_DIR={folder}",
        f"TALLY_SERVER__ADDRESS={address}",
        *(sys.executable, "-m", "services", "all"),
    ]
    try:
        process = Process.start(
            "the demo's stack", command, folder=folder, log=log, death_signal=signal.SIGTERM
        )
        try:
            async with Client(address) as client:
                await process.wait_until(lambda: _is_serving(client), _START_SECONDS)
            yield address
        finally:
            await process.stop(_STEPS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make_folder(data_dir: Path) -> Path:
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="demo-", dir=data_dir.absolute()))


async def _is_serving(client: Client) -> bool:
    try:
        return await client.health(timeout=1.0) == "SERVING"
    except TallyError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
