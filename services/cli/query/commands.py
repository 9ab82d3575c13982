"""The command that reads counts: what it takes, and what it says of itself."""

from typing import Annotated

import typer

from services.cli.terminal.options import DEFAULT_ADDRESS, Address, AsJson, EventType, Video
from services.cli.terminal.video_command import VideoCommand


def add_commands(app: typer.Typer) -> None:
    """`tally get`."""
    app.command(cls=VideoCommand)(get)


def get(
    video: Video,
    event_type: EventType = "view",
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="From this minute on.", show_default="the beginning"),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option("--to", metavar="TIME", help="Up to this minute, without it.", show_default="the end"),
    ] = None,
    strong: Annotated[
        bool,
        typer.Option("--strong", help="With everything that was journaled before; otherwise it may lag."),
    ] = False,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Print a count: of all time, or of a range.

    A time is ISO 8601, in UTC unless it names a zone: 2017-09-20T12:30:00Z, 20170920, 2017. Or it is a number since
    1970 with its unit (1505910600s, ms, us); without a unit it must lie between 2000 and 2100 in one of them.

    \b
    Example:
      tally get MBdVXkSdhwU --from 2017-09-20 --to 2017-09-21T12:30:00Z
    """
    from services.cli.query.get import get as run
    from services.cli.terminal.times import parse_range

    range_start, range_end = parse_range(start, end)
    typer.echo(run(address, video, event_type, range_start, range_end, strong=strong, as_json=as_json))
