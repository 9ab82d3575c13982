"""`tally locations`: what its commands take, and what they say of themselves."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from services.cli.terminal.options import DEFAULT_ADDRESS, Address, AsJson

Id = Annotated[str, typer.Argument(metavar="ID", help="As `list` prints it.", show_default=False)]


class Forced(StrEnum):
    """The strategies that can be asked for."""

    CHANGE = "change"
    BATCH = "batch"
    NOTIFY = "notify"
    SNAPSHOT = "snapshot"


def make_locations() -> typer.Typer:
    """The commands under `tally locations`."""
    app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    app.callback()(locations)
    app.command("list")(list_)
    for command in (index, load, delete):
        app.command()(command)
    return app


def locations() -> None:
    """Index folders, and list, load or delete locations.

    A location is what one region indexed as a whole. Its entries travel to the other regions, or are announced there
    and loaded when they are read.

    \b
    Example:
      tally locations index ~/Videos
    """


def list_(as_json: AsJson = False, address: Address = DEFAULT_ADDRESS) -> None:
    """List the locations of this region, and those that are known of others.

    \b
    Example:
      tally locations list --json
    """
    from services.cli.replication import locations as module

    module.show_locations(address, as_json=as_json)


def index(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="On the machine of the service.", show_default=False)
    ],
    strategy: Annotated[
        Forced | None,
        typer.Option(help="How it has to travel, for tests.", show_default="chosen by the number of changes"),
    ] = None,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Index a folder: what is new or changed is written, what is gone is deleted, and the rest is left as it is.

    Files that cannot be taken are named, and the rest is taken.

    \b
    Example:
      tally locations index ~/Videos --strategy batch
    """
    from services.cli.replication import locations as module

    module.index_location(address, folder.absolute(), strategy and strategy.value, as_json=as_json)


def load(location: Id, address: Address = DEFAULT_ADDRESS) -> None:
    """Load a location of another region, in the background.

    \b
    Example:
      tally locations load 0b0c8a7e-9a4e-4c40-8d0a-8e1a6a1d8a11
    """
    from services.cli.replication import locations as module

    module.load_location(address, location)


def delete(
    location: Id,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")] = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Delete a location of this region with its entries, here and at every peer. The files stay.

    \b
    Example:
      tally locations delete 0b0c8a7e-9a4e-4c40-8d0a-8e1a6a1d8a11 --yes
    """
    from services.cli.replication import locations as module

    if not yes:
        typer.confirm(f"Delete location {location} with its entries?", abort=True)
    module.delete_location(address, location)
