"""`tally replication`: what its commands take, and what they say of themselves."""

from typing import Annotated

import typer

from services.cli.terminal.options import DEFAULT_ADDRESS, Address, AsJson

Limit = Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="Print at most so many.")]
Region = Annotated[
    str,
    typer.Option("--region", metavar="ID", help="Only this one, by its id.", show_default="all"),
]


def make_replication() -> typer.Typer:
    """The commands under `tally replication`."""
    app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    app.callback()(replication)
    for command in (status, transfers, explain, verify):
        app.command()(command)
    return app


def replication() -> None:
    """Look at what comes in from other regions, and prove that both ends are equal.

    \b
    Example:
      tally replication verify
    """


def status(as_json: AsJson = False, address: Address = DEFAULT_ADDRESS) -> None:
    """Show how far each region is. Exits with 1 when nothing comes from one.

    \b
    Example:
      tally replication status
    """
    from services.cli.replication import regions as module

    module.show_status(address, as_json=as_json)


def transfers(limit: Limit = 20, as_json: AsJson = False, address: Address = DEFAULT_ADDRESS) -> None:
    """List passes, loads and snapshots that come in, newest first.

    \b
    Example:
      tally replication transfers --limit 5
    """
    from services.cli.replication import transfers as module

    module.show_transfers(address, limit, as_json=as_json)


def explain(region: Region = "", as_json: AsJson = False, address: Address = DEFAULT_ADDRESS) -> None:
    """Show which strategy the changes of each location would take to each peer now. Sends nothing.

    \b
    Example:
      tally replication explain
    """
    from services.cli.replication import transfers as module

    module.show_explanations(address, region, as_json=as_json)


def verify(region: Region = "", as_json: AsJson = False, address: Address = DEFAULT_ADDRESS) -> None:
    """Compare what is here of other regions with its owners: rows and fingerprints by location.

    \b
    Exit codes:
      0  equal
      1  something differs
      2  it could not be told: changes are under way, or a location is not loaded here

    \b
    Example:
      tally replication verify --address 127.0.0.1:50061
    """
    from services.cli.replication import verification as module

    raise typer.Exit(module.verify(address, region, as_json=as_json))
