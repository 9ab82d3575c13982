"""`tally locations`: what regions indexed, each as a whole."""

from pathlib import Path

import typer

from services.cli.terminal.calling import call
from services.cli.terminal.output import make_table, open_console, write_json


def show_locations(address: str, *, as_json: bool) -> None:
    """Print the locations. Raises Failure."""
    found = call(address, lambda client: client.replication.list_locations())
    if as_json:
        typer.echo(write_json(found))
        return
    console = open_console()
    table = make_table(console, "Locations", "id", "region", "kind", "#entries", "indexed", "state", "origin")
    for each in found:
        indexed = each.indexed_at.isoformat(timespec="seconds")
        table.add_row(
            each.location_id,
            each.device_id,
            each.kind,
            str(each.entry_count),
            indexed,
            each.state,
            each.origin,
        )
    console.print(table)


def index_location(address: str, folder: Path, strategy: str | None, *, as_json: bool) -> None:
    """Index a folder. Raises Failure."""
    found = call(address, lambda client: client.replication.index_location(str(folder), strategy=strategy))
    if as_json:
        typer.echo(write_json(found))
        return
    typer.echo(
        f"{found.location.entry_count} entries in location {found.location.location_id}: {found.written} written, "
        f"{found.deleted} deleted"
    )
    for each in found.skipped:
        typer.echo(f"not taken: {each}", err=True)
    if found.skipped_count > len(found.skipped):
        typer.echo(f"and {found.skipped_count - len(found.skipped)} more were not taken", err=True)


def load_location(address: str, location: str) -> None:
    """Load a location. Raises Failure."""
    found = call(address, lambda client: client.replication.load_location(location))
    typer.echo(f"location {location} is {found.state}")


def delete_location(address: str, location: str) -> None:
    """Delete a location. Raises Failure."""
    deleted = call(address, lambda client: client.replication.delete_location(location))
    typer.echo(f"deleted, with {deleted} entries")
