"""Starts `holder.py`: a parent process that a test may kill."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from libs.embedded.process import end_residents, find_residents

REPOSITORY = Path(__file__).parents[4]
HOLDER = Path(__file__).with_name("holder.py")


@asynccontextmanager
async def hold(what: str, folder: Path) -> AsyncIterator[Process]:
    """A process that opens `what` on `folder`; killed at the end, with its server, if the test has not done so."""
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        HOLDER,
        what,
        folder,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    try:
        yield parent
    finally:
        if parent.returncode is None:
            parent.kill()
        await parent.communicate()
        place, program = (folder / "pgdata", "postgres") if what == "postgres" else (folder, "valkey-server")
        if is_there(place):
            await end_residents(place, program, [(signal.SIGKILL, 30)])


async def read_address(parent: Process) -> str:
    assert parent.stdout is not None
    line = (await parent.stdout.readline()).decode().strip()
    assert line, "the holder ended without an address"
    return line


async def eventually(is_so: Callable[[], bool], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not is_so():  # noqa: ASYNC110 - what is awaited happens in other processes
            await asyncio.sleep(0.01)


def is_deserted(folder: Path, program: str) -> bool:
    return not find_residents(folder, program)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def is_there(path: Path) -> bool:
    return path.exists()


def has(folder: Path, pattern: str) -> bool:
    return any(folder.glob(pattern))
