"""`tally regions up`: two complete regions on this machine, in the foreground, until Ctrl-C."""

import asyncio
import signal
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import typer
import uvloop

from services.cli.terminal.advice import own_command
from services.cli.terminal.failure import REFUSED, Failure
from services.devcluster.certificates import Certificates, find_certificates
from services.devcluster.regions import open_regions
from tally.contract.errors import TallyError


def run(data_dir: Path, first: str, second: str, *, tls: bool = False) -> None:
    """Run both until Ctrl-C or SIGTERM. Raises Failure.

    `tls`: with the certificates in the data's folder, which are made if there are none.
    """
    try:
        folder = data_dir.absolute()
        certificates = find_certificates(folder / "certificates") if tls else None
        uvloop.run(_run(folder, first, second, certificates))
    except TallyError as error:
        raise Failure(error.message, REFUSED) from error


async def _run(data_dir: Path, first: str, second: str, certificates: Certificates | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    stopping = asyncio.create_task(stop.wait())
    async with AsyncExitStack() as stack:
        regions = open_regions(
            data_dir, first, second, certificates=certificates, tell=lambda _, what: typer.echo(what)
        )
        opening = asyncio.create_task(stack.enter_async_context(regions))
        await asyncio.wait({opening, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if opening.done():
            pids = await opening
            typer.echo(_banner(data_dir, first, second, pids, certificates))
            await stopping
        else:
            opening.cancel()
            with suppress(asyncio.CancelledError):
                await opening


def _banner(
    data_dir: Path,
    first: str,
    second: str,
    pids: tuple[int | None, int | None],
    certificates: Certificates | None,
) -> str:
    tally = own_command()
    variables = {} if certificates is None else certificates.environment_of_operator()
    exports = [f"  export {name}={value}" for name, value in variables.items()]
    return "\n".join(
        (
            "",
            "Two regions are serving, and know each other.",
            "",
            f"  first   {first}   pid {pids[0]}",
            f"  second  {second}   pid {pids[1]}",
            f"  data    {data_dir}",
            "",
            *(("They take calls by TLS. To be their operator:", "", *exports, "") if exports else ()),
            "Index a folder in the first, and look at it in the second:",
            "",
            f"  {tally} locations index DIR --address {first}",
            f"  {tally} locations list --address {second}",
            f"  {tally} replication verify --address {second}",
            "",
            "What dies is started again: kill -9 either of them. Ctrl-C stops both.",
        )
    )
