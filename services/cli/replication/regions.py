"""`tally regions` and `tally replication status`: the regions that this one replicates with."""

import typer

from services.cli.terminal.calling import call
from services.cli.terminal.failure import Failure
from services.cli.terminal.output import make_table, open_console, write_json
from tally.client.replication import Region


def show_regions(address: str, *, as_json: bool) -> None:
    """Print the regions. Raises Failure."""
    found = call(address, lambda client: client.replication.list_regions())
    if as_json:
        typer.echo(write_json(found))
        return
    console = open_console()
    table = make_table(console, "Regions", "id", "name", "address", "as of", "state")
    for region in found:
        as_of = region.as_of.isoformat(timespec="seconds") if region.as_of else ""
        table.add_row(region.device_id, region.name, region.address, as_of, _state(region))
    console.print(table)


def show_status(address: str, *, as_json: bool) -> None:
    """Print the regions. Raises Failure, also when nothing comes from one of them."""
    found = call(address, lambda client: client.replication.list_regions())
    show_regions(address, as_json=as_json)
    if problems := [f"{region.name}: {_state(region)}" for region in found if not _is_well(region)]:
        raise Failure("; ".join(problems))


def add_region(address: str, peer: str, *, is_lazy: bool) -> None:
    """Follow a region. Raises Failure."""
    region = call(address, lambda client: client.replication.add_region(peer, is_lazy=is_lazy))
    typer.echo(f"follows {region.name} ({region.device_id}) at {region.address}")


def remove_region(address: str, device: str) -> None:
    """Remove a region. Raises Failure."""
    call(address, lambda client: client.replication.remove_region(device))
    typer.echo(f"removed {device}")


def _state(region: Region) -> str:
    if region.is_own:
        return "this region"
    if region.problem:
        return region.problem
    return "connected" if region.is_connected else "not connected"


def _is_well(region: Region) -> bool:
    return region.is_own or (region.is_connected and not region.problem)
