"""`tally jobs workers`."""

from collections.abc import Sequence

from services.cli.scheduler.lists import read_all
from services.cli.terminal.calling import call
from services.cli.terminal.output import make_table, open_console, write_moment
from tally.client import Client
from tally.client.scheduler import Worker


def read_workers(address: str) -> list[Worker]:
    """All workers that asked lately. Raises Failure."""

    async def read(client: Client) -> list[Worker]:
        return await read_all(
            lambda size, token: client.scheduler.list_workers(page_size=size, page_token=token)
        )

    return call(address, read)


def show_workers(workers: Sequence[Worker]) -> None:
    """The workers as a table on standard output."""
    console = open_console()
    if not workers:
        console.print(
            "no workers ask for work. A worker without a handler does not: set TALLY_WORKER__YOUTUBE__API_KEY for "
            "`metadata`"
        )
        return
    table = make_table(console, "Workers", "worker", "handlers", "#leases", "since", "last asked")
    for worker in workers:
        table.add_row(
            worker.name,
            ", ".join(worker.handlers),
            str(worker.lease_count),
            write_moment(worker.create_time),
            write_moment(worker.ask_time),
        )
    console.print(table)
