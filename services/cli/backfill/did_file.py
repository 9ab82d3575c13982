"""Files of accounts: one DID per line, or CSV `did,host`."""

import gzip
import io
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from libs.atproto.syntax import is_did

STANDARD_INPUT = "-"
_MOST_TOLD = 20


@dataclass(slots=True)
class Entries:
    """The DIDs of a file, in its order, as they are read; and the lines that have none."""

    lines: Iterable[str]
    wrong: list[tuple[int, str]] = field(default_factory=list)
    """the first of those lines: its number, and what it has"""
    wrong_count: int = 0
    count: int = 0

    def __iter__(self) -> Iterator[str]:
        """Blank lines, `#`, CRLF and a byte order mark are accepted, and so is a column behind the DID."""
        for number, line in enumerate(self.lines, start=1):
            text = line.removeprefix("\ufeff").partition("#")[0].partition(",")[0].strip()
            if not text or (text == "did" and not self.count):  # the head of a CSV
                continue
            if is_did(text):
                self.count += 1
                yield text
                continue
            self.wrong_count += 1
            if len(self.wrong) < _MOST_TOLD:
                self.wrong.append((number, text[:80]))


@contextmanager
def open_entries(path: str) -> Iterator[Entries]:
    """The entries of a file, which may end in .gz, or of the standard input. Raises OSError and UnicodeError."""
    if path == STANDARD_INPUT:
        yield Entries(sys.stdin)
        return
    with Path(path).open("rb") as raw:
        file = gzip.GzipFile(fileobj=raw) if path.endswith(".gz") else raw
        yield Entries(io.TextIOWrapper(file, encoding="utf-8"))
