"""`tally quota`: what its commands take, and what they say of themselves."""

from typing import Annotated

import typer

from services.cli.terminal.options import DEFAULT_ADDRESS, Address, AsJson


def make_quota() -> typer.Typer:
    """The commands under `tally quota`."""
    app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    app.callback()(quota)
    app.command()(put)
    app.command("list")(list_)
    return app


def quota() -> None:
    """Define and list the quotas of other companies' apis.

    Each batch of a job pays its quotas before it is sent, so that all jobs and workers together stay within them.

    \b
    Example:
      tally quota list
    """


def put(
    file: Annotated[str, typer.Argument(metavar="FILE", help="TOML; - is standard input.")],
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Define the quotas of a file, or change them. Harmless to repeat.

    A quota is a table with its name, and the keys units_per_day, zone (whose midnight is the reset),
    protected_percent (for forced work alone) and send_within_seconds.

    \b
    Example:
      tally quota put services/scheduler/jobs/youtube.toml
    """
    from services.cli.scheduler import quotas as module
    from services.cli.scheduler.definitions import read_quotas
    from services.cli.terminal.output import write_json

    stored = module.put_quotas(address, read_quotas(file))
    if as_json:
        typer.echo(write_json(stored))
    else:
        module.show_list(stored)


def list_(as_json: AsJson = False, address: Address = DEFAULT_ADDRESS) -> None:
    """List the quotas, with what is used of each today.

    \b
    Example:
      tally quota list --json
    """
    from services.cli.scheduler import quotas as module
    from services.cli.terminal.output import write_json

    quotas = module.read_quotas(address)
    if as_json:
        typer.echo(write_json(quotas))
    else:
        module.show_list(quotas)
