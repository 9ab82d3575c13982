"""The `tally` command: what it says of itself, and how it ends.

What a command needs is imported when it runs: `tally count` should not wait for the servers' libraries.
"""

import os
import sys
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer

from services.cli.commands import Commands
from services.cli.terminal.connecting import Ca, Certificate, Key, ServerName, TokenFile, set_connecting
from services.cli.terminal.failure import OK, USAGE, Failure
from services.startup import prepare_streams


def main() -> None:
    """Run the command line and exit."""
    prepare_streams()
    # Else gRPC's core prints notes of its own, for example of connections that a stopping server ends.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    try:
        for argument in sys.argv:
            argument.encode()
        make_app()()
    except Failure as failure:
        _end(failure.message, failure.exit_code)
    except UnicodeEncodeError as error:
        # Bytes of the command line or the environment that are not UTF-8 are lone surrogates here (PEP 383).
        if not any("\ud800" <= character <= "\udfff" for character in str(error.object)):
            raise
        _end(f"{error.object!a} is not UTF-8, which names must be", USAGE)


def _end(message: str, exit_code: int) -> NoReturn:
    print(f"tally: {message}", file=sys.stderr)  # noqa: T201 - to the terminal
    sys.exit(exit_code)


def make_app() -> typer.Typer:
    """The command line with all its commands."""
    app = typer.Typer(
        name="tally",
        cls=Commands,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,  # plain help, which is the same in a pipe
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback()(tally)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tally {version('tally-services')}")
        raise typer.Exit(OK)


Video = Annotated[
    str,
    typer.Argument(
        metavar="VIDEO",
        help="The video's id. One that begins with - goes last, after a --.",
        show_default=False,
    ),
]
Type = Annotated[str, typer.Option("--type", metavar="TYPE", help="What happened: view, like, …")]


def tally(
    is_version_wanted: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    ca: Ca = None,
    certificate: Certificate = None,
    key: Key = None,
    server_name: ServerName = None,
    token_file: TokenFile = None,
) -> None:
    """Count video events exactly once, and read the counts.

    \b
    Exit codes:
      0  done, all is well
      1  the service refused, or what was checked is not as it should be
      2  the command was used in a wrong way
      3  nothing answers, or a write had no answer and may or may not have been counted

    \b
    Start with:
      tally up
      tally count MBdVXkSdhwU
      tally get MBdVXkSdhwU --strong
    """
    _ = is_version_wanted  # its callback has seen to it
    token = os.environ.get("TALLY_TOKEN")  # no option: who lists processes sees their arguments
    set_connecting(ca, certificate, key, server_name, token_file, token)
