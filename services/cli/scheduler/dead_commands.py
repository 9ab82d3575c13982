"""`tally jobs dead`: what its commands take, and what they say of themselves."""

from typing import Annotated

import typer

from services.cli.scheduler.options import Name, RequestId
from services.cli.terminal.options import DEFAULT_ADDRESS, Address, AsJson, Limit

Items = Annotated[
    list[str], typer.Argument(metavar="ID…", help="Ids of items, as they are listed.", show_default=False)
]


def make_dead() -> typer.Typer:
    """The commands under `tally jobs dead`."""
    app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    app.callback()(dead)
    app.command("list")(list_)
    for command in (retry, drop):
        app.command()(command)
    return app


def dead() -> None:
    """List the items of a job that were given up, and decide about them. They stay in later runs.

    \b
    Example:
      tally jobs dead list daily_sync_all_metadata_binned
    """


def list_(name: Name, limit: Limit = 50, as_json: AsJson = False, address: Address = DEFAULT_ADDRESS) -> None:
    """List the items of a job that failed for good, or in each try of a run. A success removes them.

    \b
    Example:
      tally jobs dead list daily_sync_all_metadata_binned --json
    """
    from services.cli.scheduler import dead as module
    from services.cli.terminal.output import write_json

    found = module.read_letters(address, name, limit)
    if as_json:
        typer.echo(write_json(found))
    else:
        module.show_letters(found)


def retry(
    name: Name,
    items: Items,
    request_id: RequestId = None,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Plan a run of items that were given up, now.

    \b
    Example:
      tally jobs dead retry daily_sync_all_metadata_binned MBdVXkSdhwU
    """
    from services.cli.scheduler import dead as module
    from services.cli.terminal.output import write_json

    run = module.retry_letters(address, name, items, request_id)
    typer.echo(
        write_json(run) if as_json else f"run {run.id} of {run.job} is planned: {run.member_count:,} items"
    )


def drop(name: Name, items: Items, address: Address = DEFAULT_ADDRESS) -> None:
    """Remove items from the list. Harmless to repeat.

    \b
    Example:
      tally jobs dead drop daily_sync_all_metadata_binned MBdVXkSdhwU
    """
    from services.cli.scheduler import dead as module

    typer.echo(f"{module.drop_letters(address, name, items):,} items dropped")
