"""Options that several commands have."""

import re
from typing import Annotated

import typer

DEFAULT_ADDRESS = "127.0.0.1:50051"
_LARGEST_PORT = 65_535
_ADDRESS = re.compile(r"unix:.+|[^\s/]+:\d{1,5}", re.ASCII)


def check_address(address: str) -> str:
    """Raises typer.BadParameter for what is no address."""
    if not _ADDRESS.fullmatch(address) or not _has_port(address):
        raise typer.BadParameter(f"{address!r} should be host:port, for example {DEFAULT_ADDRESS}")
    return address


def _has_port(address: str) -> bool:
    # Not that of libs.rpc.ports: a command that calls loads nothing of a server.
    return address.startswith("unix:") or int(address.rpartition(":")[2]) <= _LARGEST_PORT


Address = Annotated[
    str,
    typer.Option(
        envvar="TALLY_SERVER__ADDRESS",
        metavar="HOST:PORT",
        callback=check_address,
        help="Where the services are.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int, typer.Option(metavar="N", min=1, help="Print at most so many.")]
Video = Annotated[
    str,
    typer.Argument(
        metavar="VIDEO",
        help="The video's id. One that begins with - goes last, after a --.",
        show_default=False,
    ),
]
EventType = Annotated[str, typer.Option("--type", metavar="TYPE", help="What happened: view, like, …")]
