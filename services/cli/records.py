"""Events in a file: CSV with a heading, or JSON lines, with the fields of Event. Reading only, nothing is sent.

A line is a record, in CSV too: a quoted value ends on its line. So a quote that nobody closed costs one line, and not
all that follow; and what is bad or left out is counted in lines.
`video_id` is needed; `event_type` is `view` if it is left out, and everything else may be left out too.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any

from libs.domain import rules
from services.cli.times import of_number, parse_time
from tally.client import Event, Function, InvalidRequest
from tally.client.events import VIEW, check_function
from tally.client.times import to_microseconds

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
"""Python's own reading takes `1_000`, digits of other scripts, and words."""

FIELDS = ("video_id", "event_type", "event_time", "value", "actor_id", "function")


@dataclass(frozen=True, slots=True)
class Record:
    """An event, and its line; the first line is 1."""

    line: int
    event: Event


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no event, and why."""

    line: int
    problem: str


class NoHeading(Exception):
    """The first line of a CSV file does not name columns of events."""


def read_records(lines: Iterable[str]) -> Iterator[Record | BadLine]:
    """Read a file line by line; blank lines are passed over. JSON lines begin with `{`, all else is CSV.

    Raises NoHeading.
    """
    lines = iter(lines)
    for line, text in enumerate(lines, 1):
        if text.strip():
            rest = chain([text], lines)
            yield from (_read_json if text.lstrip().startswith("{") else _read_csv)(rest, line)


def _read_json(lines: Iterable[str], first: int) -> Iterator[Record | BadLine]:
    for line, text in enumerate(lines, first):
        if text.strip():
            try:
                yield Record(line, _event_of(_parse_object(text)))
            except (ValueError, RecursionError) as error:
                yield BadLine(line, str(error))


def _parse_object(text: str) -> Mapping[str, Any]:
    try:
        fields = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"is no JSON: {error.msg} at character {error.pos + 1}") from None
    if not isinstance(fields, dict):
        raise ValueError("is no JSON object")
    if unknown := [name for name in fields if name not in FIELDS]:
        raise ValueError(f"has {unknown[0]!r}, and an event has {', '.join(FIELDS)}")
    return {name: value for name, value in fields.items() if value is not None}


def _read_csv(lines: Iterable[str], first: int) -> Iterator[Record | BadLine]:
    heading: list[str] | None = None
    for line, text in enumerate(lines, first):
        if heading is None:
            heading = _read_heading(text, line)
        elif text.strip():
            try:
                yield Record(line, _event_of(_by_name(heading, _parse_row(text))))
            except ValueError as error:
                yield BadLine(line, str(error))


def _parse_row(text: str) -> list[str]:
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


def _read_heading(text: str, line: int) -> list[str]:
    try:
        heading = [name.strip() for name in _parse_row(text)]
    except ValueError as error:
        raise NoHeading(
            f"line {line}: the first line of a CSV file names its columns, and it {error}"
        ) from None
    wrong = [name for at, name in enumerate(heading) if name not in FIELDS or name in heading[:at]]
    if wrong or "video_id" not in heading:
        problem = f"{wrong[0]!r} is none, or there twice" if wrong else "video_id is missing"
        raise NoHeading(
            f"line {line}: the first line of a CSV file names its columns, out of {', '.join(FIELDS)}: {problem}"
        )
    return heading


def _by_name(heading: list[str], row: list[str]) -> dict[str, str]:
    if len(row) != len(heading):
        raise ValueError(f"has {len(row)} columns, and the heading has {len(heading)}")
    return {name: value for name, value in zip(heading, row, strict=True) if value}


def _event_of(fields: Mapping[str, Any]) -> Event:
    """An event that the service will take, unless its time lies ahead. Raises ValueError."""
    event = Event(
        video_id=_text(fields, "video_id"),
        event_type=_text(fields, "event_type", VIEW),
        event_time=_time(fields.get("event_time")),
        value=_number(fields.get("value")),
        actor_id=_text(fields, "actor_id"),
        function=_function(_text(fields, "function")),
    )
    _check("video_id", rules.check_video_id(event.video_id))
    _check("event_type", rules.check_event_type(event.event_type))
    _check("actor_id", rules.check_actor_id(event.actor_id))
    if event.value is not None:
        _check("value", rules.check_value(event.value))
    if event.event_time is not None:
        time_us = to_microseconds(event.event_time, "event_time")
        # What lies ahead is judged by the service's clock: this one may be wrong.
        _check("event_time", rules.check_event_time(time_us, now_us=time_us))
    if event.function is not None:
        try:
            check_function(event, "event")
        except InvalidRequest as error:
            raise ValueError(error.violations[0].description) from None
    return event


def _check(name: str, problem: str | None) -> None:
    if problem is not None:
        raise ValueError(f"{name} {problem}")


def _text(fields: Mapping[str, Any], name: str, default: str = "") -> str:
    text = fields.get(name, default)
    if not isinstance(text, str):
        raise ValueError(f"{name} is {text!r}, which is no text")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:  # of bytes that no character stands for, or half of a pair in JSON
            raise ValueError(f"{name} is not UTF-8") from None
    return text


def _time(value: Any) -> datetime | None:
    if value is None:
        return None
    if isinstance(value, str):
        return parse_time(value)
    number = _number(value)
    return None if number is None else of_number(number)


def _number(value: Any) -> float | None:
    if value is None:
        return None
    try:
        if isinstance(value, bool | list | dict) or (
            isinstance(value, str) and not _NUMBER.fullmatch(value.strip())
        ):
            raise ValueError
        return float(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{value!r} is no number that fits") from None


def _function(name: str) -> Function | None:
    try:
        return Function.of(name.lower()) if name else None
    except InvalidRequest as error:
        raise ValueError(error.message) from None
