"""A server of ours in a process of its own: a module that prints its address when it serves."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from libs.embedded.process import make_launch, read_tail
from tally.contract.errors import NotReady

ROOT = Path(__file__).parents[2]
_START_SECONDS = 60.0
_STOP_SECONDS = 20.0


@asynccontextmanager
async def open_child(module: str, *arguments: str, log: Path) -> AsyncIterator[str]:
    """Run `python -m module arguments`; yields the first line that it prints. Raises NotReady."""
    async with start_child(module, *arguments, log=log, stdout=subprocess.PIPE) as child:
        yield await _first_line(child, module, log)


@asynccontextmanager
async def start_child(
    module: str,
    *arguments: str,
    log: Path,
    environment: Mapping[str, str] | None = None,
    stdout: int | None = None,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a module; it ends with this process however that ends, and is stopped by SIGTERM.

    What it writes goes to `log`, or its standard output to `stdout`. `environment` comes on top of ours.
    """
    command = [sys.executable, "-m", module, *arguments]
    with log.open("ab") as output:
        child = await asyncio.create_subprocess_exec(
            *make_launch(command, folder=ROOT, death_signal=signal.SIGTERM),
            stdin=subprocess.DEVNULL,
            stdout=output if stdout is None else stdout,
            stderr=output,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
    try:
        yield child
    finally:
        await _stop(child)


async def _first_line(child: asyncio.subprocess.Process, module: str, log: Path) -> str:
    if child.stdout is None:
        raise AssertionError("it was opened with a pipe")
    try:
        async with asyncio.timeout(_START_SECONDS):
            line = (await child.stdout.readline()).decode().strip()
    except TimeoutError:
        line = ""
    if not line:
        raise NotReady(f"{module} did not start. {read_tail(log)}")
    return line


async def _stop(child: asyncio.subprocess.Process) -> None:
    if child.returncode is not None:
        return
    child.terminate()
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await child.wait()
    except TimeoutError:
        child.kill()
        await child.wait()
