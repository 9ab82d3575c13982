"""`tally replication transfers` and `explain`: what comes in from other regions, and what would be sent to them."""

import typer

from services.cli.terminal.calling import call
from services.cli.terminal.output import make_table, open_console, write_json


def show_transfers(address: str, limit: int, *, as_json: bool) -> None:
    """Print what comes in. Raises Failure."""
    found = call(address, lambda client: client.replication.list_transfers(limit))
    if as_json:
        typer.echo(write_json(found))
        return
    console = open_console()
    table = make_table(
        console, "Transfers", "id", "strategy", "phase", "#rows", "#of about", "#again", "#bytes", "error"
    )
    for each in found:
        counts = (each.rows_done, each.rows_total, each.rows_again, each.bytes_done)
        table.add_row(each.transfer_id, each.strategy, each.phase, *(f"{n:,}" for n in counts), each.error)
    console.print(table)


def show_explanations(address: str, region: str, *, as_json: bool) -> None:
    """Print what would be sent. Raises Failure."""
    found = call(address, lambda client: client.replication.explain(region))
    if as_json:
        typer.echo(write_json(found))
        return
    console = open_console()
    if not found:
        console.print("nothing has changed since the peers acknowledged")
        return
    table = make_table(
        console, "Strategies", "peer", "location", "strategy", "#rows", "#bytes, about", "#s, about", "reason"
    )
    for each in found:
        place = each.location_id or "the whole region"
        table.add_row(
            each.peer_device_id,
            place,
            each.strategy,
            f"{each.rows:,}",
            f"{each.bytes:,}",
            f"{each.seconds:.1f}",
            each.reason,
        )
    console.print(table)
