"""The commands of the service `counting`."""

import typer

from services.cli.counting.dead_letter_commands import make_dead_letters
from services.cli.counting.floor_commands import make_floor


def add_commands(app: typer.Typer) -> None:
    """`tally dead-letters` and `floor`."""
    app.add_typer(make_dead_letters(), name="dead-letters")
    app.add_typer(make_floor(), name="floor")
