"""`tally replication verify`: whether both ends have the same rows."""

from collections.abc import Sequence

import typer

from services.cli.terminal.calling import call
from services.cli.terminal.failure import OK, REFUSED, USAGE
from services.cli.terminal.output import make_table, open_console, write_json
from tally.client import Client
from tally.client.replication import LocationVerdict, Region, Verdict

_COULD_NOT_TELL = USAGE


def verify(address: str, region: str, *, as_json: bool) -> int:
    """Compare with one region or all; the exit code. Raises Failure."""

    async def compare(client: Client) -> list[LocationVerdict]:
        wanted = [region] if region else [each.device_id for each in await _others(client)]
        return [each for device in wanted for each in await client.replication.verify(device)]

    found = call(address, compare)
    if as_json:
        typer.echo(write_json(found))
    else:
        console = open_console()
        table = make_table(
            console, "Verify", "location", "verdict", "#rows here", "#there", "fingerprint here", "there"
        )
        for each in found:
            table.add_row(
                each.location_id,
                each.verdict,
                f"{each.rows_here:,}",
                f"{each.rows_there:,}",
                each.fingerprint_here,
                each.fingerprint_there,
            )
        console.print(table)
    verdicts = {each.verdict for each in found}
    if Verdict.DIFFERENT in verdicts:
        return REFUSED
    return OK if verdicts <= {Verdict.EQUAL} else _COULD_NOT_TELL


async def _others(client: Client) -> Sequence[Region]:
    return [each for each in await client.replication.list_regions() if not each.is_own]
