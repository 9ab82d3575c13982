"""The rules of the contract, applied before an event joins a request; each raises InvalidRequest.

An event shares its request with events of other callers, so a bad one must be found before it joins them. What
only the service can tell, such as a time that is ahead of its clock, it still refuses itself.
"""

from datetime import datetime
from math import isnan

from tally.client._checks.times import to_microseconds
from tally.client._checks.wrong_type import wrong_type
from tally.contract import rules
from tally.contract.errors import InvalidRequest

MAX_TEXT_BYTES = rules.MAX_ID_BYTES + rules.MAX_EVENT_TYPE_BYTES + rules.MAX_ID_BYTES
"""Maximum length of the three strings of one event, in UTF-8."""


def check_video_id(video_id: str) -> int:
    """A video id; how many bytes it has."""
    try:
        problem = rules.check_video_id(video_id)
    except TypeError:
        raise wrong_type("video_id", "a str", video_id) from None
    if problem is not None:
        raise InvalidRequest.of("video_id", problem)
    return len(video_id) if video_id.isascii() else len(video_id.encode())


def check_event_type(event_type: str) -> int:
    """An event type; how many bytes it has."""
    try:
        problem = rules.check_event_type(event_type)
    except TypeError:
        raise wrong_type("event_type", "a str", event_type) from None
    if problem is not None:
        raise InvalidRequest.of("event_type", problem)
    return len(event_type)


def check_actor_id(actor_id: str) -> int:
    """An actor id; how many bytes it has."""
    if not isinstance(actor_id, str):
        raise wrong_type("actor_id", "a str", actor_id)
    problem = rules.check_actor_id(actor_id)
    if problem is not None:
        raise InvalidRequest.of("actor_id", problem)
    return len(actor_id) if actor_id.isascii() else len(actor_id.encode())


def check_value(value: float) -> None:
    """A value, which must also be a number."""
    check_number(value, "value")
    problem = rules.check_value(value)
    if problem is not None:
        raise InvalidRequest.of("value", problem)


def check_number(value: float, field: str) -> float:
    """A number, as a double. `field`: its path."""
    try:
        if isnan(value):  # raises for a string, which float would read
            raise InvalidRequest.of(field, "is not a number; leave it out instead")
        return float(value)
    except TypeError:
        raise wrong_type(field, "a number", value) from None
    except OverflowError:  # an int beyond all doubles
        raise InvalidRequest.of(field, rules.VALUE) from None


def read_event_time(event_time: datetime) -> int:
    """Microseconds since 1970-01-01 UTC, from the year 2000; how far ahead it may be is for the service to say."""
    time_us = to_microseconds(event_time, "event_time")
    if time_us < rules.EARLIEST_EVENT_US:
        raise InvalidRequest.of("event_time", f"{event_time.isoformat()} is before the year 2000")
    return time_us
