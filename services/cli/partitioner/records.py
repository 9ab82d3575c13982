"""Events in a file: CSV with a heading, or JSON lines, with the fields of Event. Reading only, nothing is sent.

A line is a record, in CSV too: a quoted value ends on its line. So an unclosed quote invalidates one line, and not
all that follow; and what is bad or left out is counted in lines.
`video_id` is needed; `event_type` is `view` if it is left out, and everything else may be left out too.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any

from services.cli.terminal.rows import BadLine, NoHeading, check, read_rows, read_text
from services.cli.terminal.times import of_number, parse_time
from tally.client import Event, Function, InvalidRequest
from tally.client._checks.times import to_microseconds
from tally.client.events import check_function
from tally.contract import rules
from tally.contract.rules import VIEW

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
"""Python's own reading takes `1_000`, digits of other scripts, and words."""

__all__ = ["FIELDS", "BadLine", "NoHeading", "Record", "read_records"]

FIELDS = ("video_id", "event_type", "event_time", "value", "actor_id", "function")


@dataclass(frozen=True, slots=True)
class Record:
    """An event, and its line; the first line is 1."""

    line: int
    event: Event


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
    for row in read_rows(lines, first, FIELDS, "video_id", _event_of):
        yield row if isinstance(row, BadLine) else Record(row.line, row.value)


def _event_of(fields: Mapping[str, Any]) -> Event:
    """An event that the service will accept, unless its time is in the future. Raises ValueError."""
    event = Event(
        video_id=read_text(fields, "video_id"),
        event_type=read_text(fields, "event_type", VIEW),
        event_time=_time(fields.get("event_time")),
        value=_number(fields.get("value")),
        actor_id=read_text(fields, "actor_id"),
        function=_function(read_text(fields, "function")),
    )
    check("video_id", rules.check_video_id(event.video_id))
    check("event_type", rules.check_event_type(event.event_type))
    check("actor_id", rules.check_actor_id(event.actor_id))
    if event.value is not None:
        check("value", rules.check_value(event.value))
    if event.event_time is not None:
        time_us = to_microseconds(event.event_time, "event_time")
        # The service's clock decides about future times: this clock may be wrong.
        check("event_time", rules.check_event_time(time_us, now_us=time_us))
    if event.function is not None:
        try:
            check_function(event, "event")
        except InvalidRequest as error:
            raise ValueError(error.violations[0].description) from None
    return event


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
