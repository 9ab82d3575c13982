"""`tally jobs bins`."""

import json
from collections.abc import Sequence

from services.cli.terminal.calling import call
from services.cli.terminal.output import make_table, open_console
from tally.client import Client


def read_bins(address: str, population: str, bin_max: int) -> Sequence[int]:
    """The members of each bin, from bin 0 on. Raises Failure."""

    async def read(client: Client) -> Sequence[int]:
        return await client.scheduler.get_bin_distribution(population, bin_max)

    return call(address, read)


def to_json(counts: Sequence[int]) -> str:
    """For programs."""
    return json.dumps([{"bin": number, "members": count} for number, count in enumerate(counts)], indent=2)


def show_bins(counts: Sequence[int]) -> None:
    """The bins as a table on standard output."""
    console, total = open_console(), sum(counts)
    table = make_table(console, "Bins", "#bin", "#members", "#share")
    for number, count in enumerate(counts):
        table.add_row(str(number), f"{count:,}", f"{100 * count / total:.2f} %" if total else "")
    console.print(table)
