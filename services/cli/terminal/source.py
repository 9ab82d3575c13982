"""The file that a command reads, or standard input."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO, TextIO

from services.cli.terminal.failure import Failure

STDIN = "-"


@contextmanager
def open_source(file: str) -> Iterator[BinaryIO]:
    """Open it; `-` is standard input. Raises Failure."""
    if file == STDIN:
        yield sys.stdin.buffer
        return
    try:
        binary = Path(file).open("rb")  # noqa: SIM115 - it is closed below
    except OSError as error:
        raise Failure(f"{file} cannot be read: {error.strerror}") from error
    with binary:
        yield binary


def read_lines(binary: BinaryIO) -> TextIO:
    """Its lines, with their ends. Bytes that are not UTF-8 are kept as lone surrogates, for a later check."""
    return TextIOWrapper(binary, encoding="utf-8-sig", errors="surrogateescape", newline="")
