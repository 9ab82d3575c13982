"""What `tally regions`, `tally locations` and `tally replication` do and print."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from services.cli.terminal.calling import call
from services.cli.terminal.failure import OK, REFUSED, USAGE, Failure
from services.cli.terminal.output import make_table, open_console
from tally.client import Client
from tally.client.replication import LocationVerdict, Region, Verdict

_COULD_NOT_TELL = USAGE


def show_regions(address: str, *, as_json: bool) -> None:
    """Print the regions. Raises Failure."""
    found = call(address, lambda client: client.replication.list_regions())
    if as_json:
        _print_json(found)
        return
    console = open_console()
    table = make_table(console, "Regions", "id", "name", "address", "as of", "state")
    for region in found:
        as_of = region.as_of.isoformat(timespec="seconds") if region.as_of else ""
        table.add_row(region.device_id, region.name, region.address, as_of, _state(region))
    console.print(table)


def add_region(address: str, peer: str, *, is_lazy: bool) -> None:
    """Follow a region. Raises Failure."""
    region = call(address, lambda client: client.replication.add_region(peer, is_lazy=is_lazy))
    typer.echo(f"follows {region.name} ({region.device_id}) at {region.address}")


def remove_region(address: str, device: str) -> None:
    """Remove a region. Raises Failure."""
    call(address, lambda client: client.replication.remove_region(device))
    typer.echo(f"removed {device}")


def show_locations(address: str, *, as_json: bool) -> None:
    """Print the locations. Raises Failure."""
    found = call(address, lambda client: client.replication.list_locations())
    if as_json:
        _print_json(found)
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
        _print_json(found)
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


def show_status(address: str, *, as_json: bool) -> None:
    """Print the regions. Raises Failure, also when nothing comes from one of them."""
    found = call(address, lambda client: client.replication.list_regions())
    show_regions(address, as_json=as_json)
    if problems := [f"{region.name}: {_state(region)}" for region in found if not _is_well(region)]:
        raise Failure("; ".join(problems))


def show_transfers(address: str, limit: int, *, as_json: bool) -> None:
    """Print what comes in. Raises Failure."""
    found = call(address, lambda client: client.replication.list_transfers(limit))
    if as_json:
        _print_json(found)
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
        _print_json(found)
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


def verify(address: str, region: str, *, as_json: bool) -> int:
    """Compare with one region or all; the exit code. Raises Failure."""

    async def compare(client: Client) -> list[LocationVerdict]:
        wanted = [region] if region else [each.device_id for each in await _others(client)]
        return [each for device in wanted for each in await client.replication.verify(device)]

    found = call(address, compare)
    if as_json:
        _print_json(found)
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


def _state(region: Region) -> str:
    if region.is_own:
        return "this region"
    if region.problem:
        return region.problem
    return "connected" if region.is_connected else "not connected"


def _is_well(region: Region) -> bool:
    return region.is_own or (region.is_connected and not region.problem)


def _print_json(found: Any) -> None:
    value = [asdict(each) for each in found] if isinstance(found, list | tuple) else asdict(found)
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=lambda each: each.isoformat()))
