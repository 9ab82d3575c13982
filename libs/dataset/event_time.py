"""The time of a record, from nothing but its repository (T002-40).

`createdAt` is whatever a client wrote. It counts if it is a time from 2000 to the time of the repository's rev. Else
the time in the record's key counts, if the key is a TID and its time is in those bounds, and else that of the rev.
"""

from enum import StrEnum
from typing import Any, NamedTuple

from libs.atproto.syntax import is_tid, parse_datetime, time_of_tid
from tally.contract.rules import EARLIEST_EVENT_US


class Source(StrEnum):
    """Where the time of a record comes from."""

    CREATED_AT = "created_at"
    KEY = "key"
    REV = "rev"


class EventTime(NamedTuple):
    """A time in microseconds since 1970-01-01 UTC, and where it comes from."""

    time_us: int
    source: Source


def event_time(created_at: Any, key: str, rev_us: int) -> EventTime:
    """The time of a record. `created_at`: what its field `createdAt` holds, of any type; `rev_us`: 2000 or later."""
    if isinstance(created_at, str):
        try:
            written = parse_datetime(created_at)
        except ValueError:
            pass
        else:
            if EARLIEST_EVENT_US <= written <= rev_us:
                return EventTime(written, Source.CREATED_AT)
    if is_tid(key) and EARLIEST_EVENT_US <= (in_key := time_of_tid(key)) <= rev_us:
        return EventTime(in_key, Source.KEY)
    return EventTime(rev_us, Source.REV)
