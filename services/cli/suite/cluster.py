"""`tally cluster`: every service in its own processes, in the foreground, until Ctrl-C."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path

import uvloop
from rich.console import Console

from libs.telemetry.logs import set_up_logs
from libs.telemetry.targets import path_in
from services.cli.suite.up import give_up
from services.cli.terminal.advice import own_command, say_where
from services.cli.terminal.configuration import read_settings
from services.cli.terminal.failure import REFUSED, Failure
from services.cli.terminal.output import make_table, open_console, under_way
from services.devcluster.certificates import find_certificates
from services.devcluster.cluster import Cluster, open_cluster
from services.devcluster.topology import POSTGRES, VALKEY
from services.process.foreground import watch_data
from services.settings import Settings
from tally.contract.errors import TallyError

_INDENT = "\n          "


def run(replicas: Mapping[str, int], address: str, data_dir: Path | None, *, tls: bool = False) -> None:
    """Run a cluster until Ctrl-C or SIGTERM. Raises Failure.

    `tls`: with the certificates in the data's folder, which are made if there are none.
    """
    settings = read_settings()
    set_up_logs(settings.log)
    folder = (data_dir or settings.data_dir).absolute()
    try:
        uvloop.run(_run(open_console(), replicas, address, folder, settings, tls))
    except TallyError as error:
        raise Failure(error.message, REFUSED) from error


async def _run(
    console: Console,
    replicas: Mapping[str, int],
    address: str,
    folder: Path,
    settings: Settings,
    tls: bool,
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    stopping = asyncio.create_task(stop.wait())
    looking = asyncio.create_task(watch_data(folder, give_up))
    async with AsyncExitStack() as stack:
        report = stack.enter_context(_progress(console))
        cluster = open_cluster(
            folder,
            replicas,
            address=address,
            settings=settings,
            certificates=find_certificates(folder / "certificates") if tls else None,
            report=report,
            tell=lambda _, what: _note(console, what),
        )
        opening = asyncio.create_task(stack.enter_async_context(cluster))
        await asyncio.wait({opening, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if opening.done():
            opened = await opening
            report("")
            _introduce(console, opened, folder)
            await stopping
        else:
            opening.cancel()
            with suppress(asyncio.CancelledError):
                await opening
    looking.cancel()
    console.print("Stopped.")


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[str], None]]:
    """Tells what takes time: a line that changes on a terminal, else a line for each; nothing takes time now: ""."""
    if not console.is_terminal:
        yield lambda what: console.print(under_way(what)) if what else None
        return
    status = console.status("")

    def report(what: str) -> None:
        if what:
            status.update(under_way(what))
            status.start()
        else:
            status.stop()

    try:
        yield report
    finally:
        status.stop()


def _introduce(console: Console, cluster: Cluster, folder: Path) -> None:
    console.print()
    table = make_table(console, "", "name", "what it does", "address", "#pid")
    for each in cluster.processes.values():
        address = "a unix socket" if each.name in (POSTGRES, VALKEY) else each.address
        table.add_row(each.name, each.purpose, address, str(each.pid))
    console.print(table)
    where = say_where(cluster.address)
    tally = own_command()
    shard = cluster.topology.of("counting")[0].address
    lines = [
        f"Ready. The front proxy is at {cluster.address}, the data and the logs are in {_shorten(folder)}.",
        "",
        *_introduce_certificates(cluster),
        "Count a view, read it back, and look at all of it:",
        "",
        f"  {tally} count MBdVXkSdhwU{where}",
        f"  {tally} get MBdVXkSdhwU --strong{where}",
        f"  {tally} status{where}",
        f"  {tally} trace MBdVXkSdhwU{where}",
        "",
        f"Metrics of every process for Prometheus: {_shorten(path_in(folder))} lists where they are.",
        "",
        "Dead letters are for operators: any shard answers for all of them, and the front proxy does not.",
        "",
        f"  {tally} dead-letters list --address {shard}",
        "",
        "What dies is started again: kill -9 any of them. Ctrl-C stops all of them.",
        "",
    ]
    console.print("\n".join(lines), soft_wrap=True)


def _introduce_certificates(cluster: Cluster) -> list[str]:
    if cluster.certificates is None:
        return []
    variables = cluster.certificates.environment_of_operator().items()
    return [
        f"It takes calls by TLS from those who are in {_shorten(cluster.certificates.callers)}. To be its operator:",
        "",
        *(f"  export {name}={_shorten(Path(value))}" for name, value in variables),
        "",
    ]


def _note(console: Console, what: str) -> None:
    """A line for what became of a child, with the time; more lines are the end of its log."""
    now = datetime.now().astimezone().strftime("%H:%M:%S")
    console.print(f"{now}  {_INDENT.join(what.splitlines())}", soft_wrap=True)


def _shorten(folder: Path) -> str:
    relative = os.path.relpath(folder)
    return str(folder) if relative.startswith("..") else relative
