"""CSV, a line at a time: a line is a record, so an unclosed quote invalidates one line and not all that follow."""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row(Generic[T]):
    """A record, and its line; the first line is 1."""

    line: int
    value: T


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be used, and why."""

    line: int
    problem: str


class NoHeading(Exception):
    """The first line of a CSV file does not name its columns."""


def read_rows(
    lines: Iterable[str],
    first: int,
    columns: Sequence[str],
    key: str,
    make: Callable[[Mapping[str, str]], T],
) -> Iterator[Row[T] | BadLine]:
    """Read lines of which the first, with the number `first`, is the heading. Blank lines are passed over.

    `make`: a record from its fields without empty ones; raises ValueError. `key`: the column that must be there.
    Raises NoHeading.
    """
    heading: list[str] | None = None
    for line, text in enumerate(lines, first):
        if not text.strip():
            continue
        if heading is None:
            heading = _read_heading(text, line, columns, key)
            continue
        try:
            yield Row(line, make(_by_name(heading, _parse(text))))
        except ValueError as error:
            yield BadLine(line, str(error))


def read_text(fields: Mapping[str, Any], name: str, default: str = "") -> str:
    """A field that is text. Raises ValueError."""
    text = fields.get(name, default)
    if not isinstance(text, str):
        raise ValueError(f"{name} is {text!r}, which is no text")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:  # of bytes that no character stands for, or half of a pair in JSON
            raise ValueError(f"{name} is not UTF-8") from None
    return text


def check(name: str, problem: str | None) -> None:
    """Raises ValueError when there is a problem with a field."""
    if problem is not None:
        raise ValueError(f"{name} {problem}")


def _parse(text: str) -> list[str]:
    """The values of one line. Raises ValueError."""
    try:
        return next(csv.reader((text,), strict=True))
    except csv.Error as error:
        is_open = str(error) == "unexpected end of data"
        raise ValueError(
            "has a quote that is not closed on its line; a value cannot hold a line break, and a quote in a quoted "
            "value is written twice"
            if is_open
            else f"is no CSV: {error}"
        ) from None


def _read_heading(text: str, line: int, columns: Sequence[str], key: str) -> list[str]:
    try:
        heading = [name.strip() for name in _parse(text)]
    except ValueError as error:
        raise NoHeading(
            f"line {line}: the first line of a CSV file names its columns, and it {error}"
        ) from None
    wrong = [name for at, name in enumerate(heading) if name not in columns or name in heading[:at]]
    if wrong or key not in heading:
        problem = f"{wrong[0]!r} is none, or there twice" if wrong else f"{key} is missing"
        raise NoHeading(
            f"line {line}: the first line of a CSV file names its columns, out of {', '.join(columns)}: {problem}"
        )
    return heading


def _by_name(heading: list[str], row: list[str]) -> dict[str, str]:
    if len(row) != len(heading):
        raise ValueError(f"has {len(row)} columns, and the heading has {len(heading)}")
    return {name: value for name, value in zip(heading, row, strict=True) if value}
