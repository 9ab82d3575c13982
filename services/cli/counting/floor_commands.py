"""`tally floor`: what its commands take, and what they say of themselves."""

from typing import Annotated

import typer

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")]


def make_floor() -> typer.Typer:
    """The commands under `tally floor`."""
    app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    app.callback()(floor)
    app.command()(show)
    app.command()(lower)
    return app


def floor() -> None:
    """Show the floor, or lower one that wrong clocks have raised too far.

    The floor is a time, 24 h 30 min ago. Requests older than that are refused, because nobody could tell any more
    whether they were counted before. Both commands need TALLY_POSTGRES__DSN.

    \b
    Example:
      tally floor show
    """


def show() -> None:
    """Show the floor, where it belongs, and whether it can be lowered.

    \b
    Example:
      tally floor show
    """
    from services.cli.counting.floor import show as run

    typer.echo(run())


def lower(yes: Yes = False) -> None:
    """Lower a floor that is ahead of where it belongs, if that cannot count anything twice.

    It is refused while Postgres's clock and this machine's differ; and for good when, between the two places, the
    journal has lost a partition or a dead letter was replayed. Shards go on under new logs at once.

    \b
    Example:
      tally floor lower
    """
    from services.cli.counting import floor as module

    typer.echo(module.show())
    if not yes:
        typer.confirm("Lower it?", abort=True)
    typer.echo(module.lower())
