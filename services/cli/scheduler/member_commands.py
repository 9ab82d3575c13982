"""`tally videos` and `tally channels`: what their commands take, and what they say of themselves."""

from typing import Annotated

import typer

from services.cli.terminal.options import DEFAULT_ADDRESS, Address, AsJson

File = Annotated[str, typer.Argument(metavar="FILE", help="CSV; - is standard input.", show_default=False)]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave bad lines out; otherwise they stop the import.")
]
MaxBad = Annotated[
    float,
    typer.Option(
        metavar="PERCENT", min=0, max=100, help="With --skip-bad: exit with 1 if more lines were bad."
    ),
]


def make_videos() -> typer.Typer:
    """The commands under `tally videos`."""
    app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    app.callback()(videos)
    app.command("import")(import_videos)
    return app


def make_channels() -> typer.Typer:
    """The commands under `tally channels`."""
    app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    app.callback()(channels)
    app.command("import")(import_channels)
    return app


def videos() -> None:
    """Keep the videos that jobs work on.

    \b
    Example:
      tally videos import videos.csv
    """


def channels() -> None:
    """Keep the channels that jobs work on.

    \b
    Example:
      tally channels import channels.csv
    """


def import_videos(
    file: File,
    skip_bad: SkipBad = False,
    max_bad: MaxBad = 10.0,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Put the videos of a CSV file: new ones are inserted, and those that differ are updated.

    The first line names the columns, out of youtube_id, channel_id, title, is_oon and has_label_association; only
    youtube_id is needed. Flags are true or false (t or f, 1 or 0). An empty value keeps what is stored. Each line is a
    video: a quoted value cannot hold a line break. Harmless to repeat.

    \b
    Examples:
      tally videos import videos.csv
      zcat videos.csv.gz | tally videos import - --skip-bad
    """
    from services.cli.scheduler import importing as module

    totals = module.import_videos(file, address, skip_bad=skip_bad, max_bad_percent=max_bad)
    typer.echo(totals.to_json() if as_json else totals.describe("videos"))


def import_channels(
    file: File,
    skip_bad: SkipBad = False,
    max_bad: MaxBad = 10.0,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Put the channels of a CSV file: new ones are inserted, and those that differ are updated.

    As for videos, with the columns youtube_id, title, is_oon and has_label_association.

    \b
    Example:
      tally channels import channels.csv
    """
    from services.cli.scheduler import importing as module

    totals = module.import_channels(file, address, skip_bad=skip_bad, max_bad_percent=max_bad)
    typer.echo(totals.to_json() if as_json else totals.describe("channels"))
