"""The commands of the service `replication`."""

import typer

from services.cli.replication.location_commands import make_locations
from services.cli.replication.region_commands import make_regions
from services.cli.replication.replication_commands import make_replication


def add_commands(app: typer.Typer) -> None:
    """`tally regions`, `locations` and `replication`."""
    app.add_typer(make_regions(), name="regions")
    app.add_typer(make_locations(), name="locations")
    app.add_typer(make_replication(), name="replication")
