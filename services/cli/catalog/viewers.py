"""Viewers in the syntax of the command line: us/48/mobile."""

from services.cli.terminal.failure import USAGE, Failure
from tally.catalog.v1 import rights_pb2

_PARTS = 3


def read_viewer(text: str) -> rights_pb2.Viewer:
    """The viewer. Raises Failure."""
    parts = text.split("/")
    if len(parts) != _PARTS or not all(parts):
        raise Failure(
            f"--viewer {text!r} should be country/application/platform, for example us/48/mobile", USAGE
        )
    country, application, platform = parts
    return rights_pb2.Viewer(country=country, application=application, platform=platform)
