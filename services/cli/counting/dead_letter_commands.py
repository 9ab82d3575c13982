"""`tally dead-letters`: what its commands take, and what they say of themselves."""

from enum import StrEnum
from typing import Annotated

import typer

from services.cli.terminal.options import DEFAULT_ADDRESS, Address, AsJson

Id = Annotated[str, typer.Argument(metavar="ID", help="As `list` prints it.", show_default=False)]
Ids = Annotated[
    list[str] | None, typer.Argument(metavar="ID", help="As `list` prints them.", show_default=False)
]
All = Annotated[bool, typer.Option("--all", help="Every letter that is waiting.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")]


class Filter(StrEnum):
    """Which letters are listed."""

    WAITING = "waiting"
    REPLAYED = "replayed"
    DROPPED = "dropped"
    ALL = "all"


def make_dead_letters() -> typer.Typer:
    """The commands under `tally dead-letters`."""
    app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    app.callback()(dead_letters)
    app.command("list")(list_)
    for command in (show, replay, drop):
        app.command()(command)
    return app


def dead_letters() -> None:
    """List, show, replay or drop events that could not be counted.

    A dead letter holds the events of one request in one partition, with the reason why they are in no count. It
    waits until somebody replays it, which counts its events once, or drops it. Either is final.

    \b
    Example:
      tally dead-letters list
    """


def list_(
    state: Annotated[Filter, typer.Option(help="Only letters in this state.")] = Filter.WAITING,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="Print at most so many.")] = 100,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """List the letters, oldest first.

    \b
    Example:
      tally dead-letters list --state all --json
    """
    from services.cli.counting import dead_letters as module

    page = module.read_letters(address, None if state is Filter.ALL else state.value, limit)
    if as_json:
        typer.echo(module.list_as_json(page))
    else:
        module.show_list(page, has_states=state is Filter.ALL)


def show(
    letter: Id,
    events: Annotated[
        int, typer.Option("--events", metavar="N", min=1, max=10_000, help="Print at most so many events.")
    ] = 20,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Show one letter: why it could not be counted, and its first events.

    \b
    Example:
      tally dead-letters show 01890a5d-ac96-774b-bcce-b302099a8057/7
    """
    from services.cli.counting import dead_letters as module

    content = module.read_letter(address, letter, events)
    if as_json:
        typer.echo(module.content_as_json(content))
    else:
        module.show_content(content)


def replay(
    letters: Ids = None, every: All = False, yes: Yes = False, address: Address = DEFAULT_ADDRESS
) -> None:
    """Count the events of letters, each once.

    A letter whose reason still holds stays as it is, and the others are replayed all the same. One whose events turn
    out to be counted already is dropped. Harmless to repeat.

    \b
    Examples:
      tally dead-letters replay 01890a5d-ac96-774b-bcce-b302099a8057/7
      tally dead-letters replay --all --yes
    """
    from services.cli.counting.deciding import REPLAY, decide

    decide(REPLAY, address, letters or [], every=every, yes=yes)


def drop(
    letters: Ids = None, every: All = False, yes: Yes = False, address: Address = DEFAULT_ADDRESS
) -> None:
    """Decide that letters are not to be counted. They are kept, and `list --state dropped` shows them.

    \b
    Examples:
      tally dead-letters drop 01890a5d-ac96-774b-bcce-b302099a8057/7
      tally dead-letters drop --all --yes
    """
    from services.cli.counting.deciding import DROP, decide

    decide(DROP, address, letters or [], every=every, yes=yes)
