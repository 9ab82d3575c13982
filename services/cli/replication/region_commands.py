"""`tally regions`: what its commands take, and what they say of themselves."""

from pathlib import Path
from typing import Annotated

import typer

from services.cli.terminal.options import DEFAULT_ADDRESS, Address, AsJson, check_address
from services.startup import end_on_signals


def make_regions() -> typer.Typer:
    """The commands under `tally regions`."""
    app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    app.callback()(regions)
    app.command("list")(list_)
    for command in (add, remove, up):
        app.command()(command)
    return app


def regions() -> None:
    """List, add or remove the regions that this one replicates with.

    A region is a whole Tally with a Postgres of its own. Each owns the rows that it made; the others get copies.

    \b
    Example:
      tally regions list
    """


def list_(as_json: AsJson = False, address: Address = DEFAULT_ADDRESS) -> None:
    """List the regions, this one first, with how far each is.

    \b
    Example:
      tally regions list --json
    """
    from services.cli.replication import regions as module

    module.show_regions(address, as_json=as_json)


def add(
    peer: Annotated[
        str,
        typer.Argument(
            metavar="HOST:PORT", help="Of its replication service, or its front proxy.", show_default=False
        ),
    ],
    lazy: Annotated[
        bool, typer.Option("--lazy", help="Load large locations only when they are read.")
    ] = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Make a region known, and follow its rows. Do the same there, so that it lets this region in.

    \b
    Example:
      tally regions add 10.0.0.7:50051
    """
    from services.cli.replication import regions as module

    module.add_region(address, check_address(peer), is_lazy=lazy)


def remove(
    device: Annotated[str, typer.Argument(metavar="ID", help="As `list` prints it.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")] = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Stop following a region, and delete what is here of it.

    \b
    Example:
      tally regions remove 0b0c8a7e-9a4e-4c40-8d0a-8e1a6a1d8a11
    """
    from services.cli.replication import regions as module

    if not yes:
        typer.confirm(f"Delete everything that is here of region {device}?", abort=True)
    module.remove_region(address, device)


def up(
    data_dir: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the data of both are.")] = Path(
        ".tally/regions"
    ),
    first: Annotated[
        str, typer.Option(metavar="HOST:PORT", callback=check_address, help="Where the first listens.")
    ] = DEFAULT_ADDRESS,
    second: Annotated[
        str, typer.Option(metavar="HOST:PORT", callback=check_address, help="Where the second listens.")
    ] = "127.0.0.1:50061",
    tls: Annotated[
        bool,
        typer.Option(
            "--tls", help="TLS and roles in both, with the certificates in certificates/ among the data."
        ),
    ] = False,
) -> None:
    """Run two complete regions on this machine, until Ctrl-C.

    Each has a Postgres and a Valkey of its own, and they know each other. Whatever dies is started again.
    With --tls it makes certificates, as `tally certificates` does, where there are none.

    \b
    Example:
      tally regions up
    """
    end_on_signals()
    from services.cli.replication.two_regions import run

    run(data_dir, first, second, tls=tls)
