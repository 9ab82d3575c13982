"""`tally regions up`: two complete regions on this machine, each a process that is started again when it dies."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import typer
import uvloop

from libs.domain.errors import TallyError
from libs.embedded.folder import open_folder
from libs.embedded.process import Process
from libs.rpc import ports
from libs.rpc.probe import is_serving
from libs.runtime.supervisor import Died, Supervisor
from services.cli.suite.up import own_command
from services.cli.terminal.failure import REFUSED, Failure
from services.registry import ALL, BY_NAME

_START_SECONDS = 120.0
_STOP_SECONDS = 60.0
_KILL_SECONDS = 5.0
_ASK_SECONDS = 2.0
_POLL_SECONDS = 0.1
_NAMES = ("first", "second")
_HEALTH = BY_NAME["replication"].health


def run(data_dir: Path, first: str, second: str) -> None:
    """Run both until Ctrl-C or SIGTERM. Raises Failure."""
    try:
        for address in (first, second):
            ports.check_free(address)
        uvloop.run(_run(data_dir.absolute(), first, second))
    except TallyError as error:
        raise Failure(error.message, REFUSED) from error


async def _run(data_dir: Path, first: str, second: str) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    supervisor = Supervisor(lambda _, what: typer.echo(what))
    for name, own, other in ((_NAMES[0], first, second), (_NAMES[1], second, first)):
        supervisor.add(name, _opener(name, own, other, data_dir / name))
    starting = asyncio.create_task(_start(supervisor))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
            typer.echo(_banner(data_dir, first, second, [supervisor.children[name].pid for name in _NAMES]))
            await stopping
    finally:
        starting.cancel()
        stopping.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)
        await supervisor.stop_together(_NAMES)


async def _start(supervisor: Supervisor) -> None:
    await asyncio.gather(*(supervisor.start(name) for name in _NAMES))


def _opener(
    name: str, address: str, other: str, folder: Path
) -> Callable[[Died], AbstractAsyncContextManager[int]]:
    variables = {
        "TALLY_DATA_DIR": str(folder),
        "TALLY_SERVER__ADDRESS": address,
        "TALLY_REPLICATION__NAME": name,
        "TALLY_REPLICATION__PEERS": json.dumps([other]),
    }

    @asynccontextmanager
    async def open_region(died: Died) -> AsyncIterator[int]:
        os.close(open_folder(folder, is_private=False))
        process = Process.start(
            name,
            [sys.executable, "-m", "services", ALL],
            folder=folder,
            log=folder / "tally.log",
            death_signal=signal.SIGTERM,  # it stops its Postgres in order
            environment={**os.environ, **variables},
        )
        try:
            await process.wait_until(
                lambda: is_serving(address, _HEALTH, _ASK_SECONDS),
                _START_SECONDS,
                every_seconds=_POLL_SECONDS,
            )
            async with process.watch(died, every_seconds=_POLL_SECONDS):
                yield process.pid
        finally:
            await process.stop([(signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, _KILL_SECONDS)])

    return open_region


def _banner(data_dir: Path, first: str, second: str, pids: list[int | None]) -> str:
    tally = own_command()
    return "\n".join(
        (
            "",
            "Two regions are serving, and know each other.",
            "",
            f"  first   {first}   pid {pids[0]}",
            f"  second  {second}   pid {pids[1]}",
            f"  data    {data_dir}",
            "",
            "Index a folder in the first, and look at it in the second:",
            "",
            f"  {tally} locations index DIR --address {first}",
            f"  {tally} locations list --address {second}",
            f"  {tally} replication verify --address {second}",
            "",
            "What dies is started again: kill -9 either of them. Ctrl-C stops both.",
        )
    )
