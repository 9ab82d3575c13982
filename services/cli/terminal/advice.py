"""Command lines that a command advises, as they can be typed from here."""

import os
import sys
from pathlib import Path

from services.cli.terminal.options import DEFAULT_ADDRESS


def say_where(address: str) -> str:
    """The option with which a command on this machine reaches a server that listens at `address`."""
    host, _, port = address.rpartition(":")
    # Where a server listens on every address, an HTTP proxy could be asked for that "address" (http_proxy).
    near = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104 - nothing listens there
    return "" if f"{near}:{port}" == DEFAULT_ADDRESS else f" --address {near}:{port}"


def own_command() -> str:
    """The path of `tally` beside this Python, as short as it can be typed from here."""
    command = Path(sys.executable).parent / "tally"
    relative = os.path.relpath(command)
    return str(command) if relative.startswith("..") else relative
