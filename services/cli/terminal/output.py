"""What commands print: colour and lines on a terminal, plain text in a pipe."""

import json
import sys
from dataclasses import asdict
from datetime import datetime
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

_NO_WIDTH = 10_000
"""Nothing is folded where there is no terminal."""


def open_console(*, stderr: bool = False) -> Console:
    """A console on one of the standard streams."""
    is_terminal = (sys.stderr if stderr else sys.stdout).isatty()
    width = None if is_terminal else _NO_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, markup=False, force_terminal=is_terminal)


def under_way(what: str) -> str:
    """A line for what takes time, in the characters that standard output has."""
    try:
        "…".encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return f"{what} ..."
    return f"{what} …"


def make_table(console: Console, title: str, *columns: str) -> Table:
    """A table with these headings; those that begin with `#` are of numbers."""
    table = Table(title=title, title_justify="left", box=SIMPLE if console.is_terminal else None)
    for column in columns:
        table.add_column(column.removeprefix("#"), justify="right" if column.startswith("#") else "left")
    return table


def write_json(value: Any) -> str:
    """A dataclass, or a list of them, for programs. Times are ISO 8601."""
    plain = [asdict(each) for each in value] if isinstance(value, list | tuple) else asdict(value)
    return json.dumps(plain, indent=2, ensure_ascii=False, default=_write_time)


def write_moment(time: datetime | None) -> str:
    """A time for people, to the second; nothing for None."""
    return "" if time is None else f"{time:%Y-%m-%d %H:%M:%S}Z"


def _write_time(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in JSON")
