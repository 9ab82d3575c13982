"""How commands connect: with TLS, and as whom. The options stand before the command, and each has a variable."""

from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli.terminal.failure import USAGE, Failure


@dataclass(frozen=True, slots=True)
class Connecting:
    """What the options before a command say."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None
    token: str | None = field(default=None, repr=False)


_connecting: ContextVar[Connecting] = ContextVar("connecting", default=Connecting())  # noqa: B039 - it is frozen

Ca = Annotated[
    Path | None,
    typer.Option(
        envvar="TALLY_CA", metavar="FILE", help="TLS: the authorities of the servers' certificates."
    ),
]
Certificate = Annotated[
    Path | None,
    typer.Option(envvar="TALLY_CERTIFICATE", metavar="FILE", help="TLS: a certificate of your own."),
]
Key = Annotated[
    Path | None, typer.Option(envvar="TALLY_KEY", metavar="FILE", help="TLS: the key of your certificate.")
]
ServerName = Annotated[
    str | None,
    typer.Option(
        envvar="TALLY_SERVER_NAME", metavar="NAME", help="TLS: the name in the servers' certificates."
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        envvar="TALLY_TOKEN_FILE",
        metavar="FILE",
        help="The token by which the services know you; or the token itself in TALLY_TOKEN.",
    ),
]


def set_connecting(
    ca: Path | None,
    certificate: Path | None,
    key: Path | None,
    server_name: str | None,
    token_file: Path | None,
    token: str | None,
) -> None:
    """Say how the command that follows connects. Raises Failure."""
    if ca is None and (certificate or key or server_name):
        raise Failure("a certificate, its key and a server name need --ca (TALLY_CA)", USAGE)
    if token_file is not None:
        try:
            token = token_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Failure(f"cannot read the token in {token_file}: {type(error).__name__}", USAGE) from None
    _connecting.set(Connecting(ca, certificate, key, server_name, token or None))


def client_options() -> dict[str, Any]:
    """The arguments with which this command makes a client, be it asynchronous or blocking."""
    said = _connecting.get()
    from tally.client.tls import Tls  # a command that calls nobody needs no gRPC

    tls = None if said.ca is None else Tls(said.ca, said.certificate, said.key, said.server_name)
    return {"tls": tls, "token": said.token}
