"""`tally toy`."""

from typing import Annotated

import typer

from services.cli.terminal.options import DEFAULT_ADDRESS, Address

Name = Annotated[str, typer.Argument(metavar="NAME", help="The toy's name.", show_default=False)]


def add_commands(app: typer.Typer) -> None:
    """`tally toy put` and `tally toy get`."""
    toys = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    toys.callback()(toy)
    toys.command()(put)
    toys.command()(get)
    app.add_typer(toys, name="toy")


def toy() -> None:
    """Keep toys."""


def put(
    name: Name,
    colour: Annotated[str, typer.Argument(metavar="COLOUR", help="Its colour.", show_default=False)],
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Store a toy."""
    from services.cli.terminal.calling import call

    call(address, lambda client: client.toy.put(name, colour))
    typer.echo(f"{name} is {colour}")


def get(name: Name, address: Address = DEFAULT_ADDRESS) -> None:
    """Print a toy, and the views of its video."""
    from services.cli.terminal.calling import call

    found = call(address, lambda client: client.toy.get(name))
    typer.echo(f"{name} is {found.colour} and was viewed {found.view_count} times")
