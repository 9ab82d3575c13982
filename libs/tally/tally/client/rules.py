"""What a single field of an event may hold: the service's own rules, asked here first.

An event shares its request with events of other callers, so a bad one must be found before it joins them. What
only the service can tell, such as a time that is ahead of its clock, it still refuses itself.
"""

import re
import unicodedata
from datetime import datetime
from math import isfinite, isnan

from tally.client.errors import InvalidRequest, wrong_type
from tally.client.times import to_microseconds

EARLIEST_EVENT_US = 946_684_800_000_000
"""2000-01-01 UTC, in microseconds since 1970-01-01 UTC."""
MAX_MAGNITUDE = float(2**53)
VALUE = "must be a finite number within ±2^53"
MAX_TEXT_BYTES = 128 + 64 + 128
"""Of the three strings of one event, in UTF-8."""

_EVENT_TYPE = re.compile(r"[a-z0-9_.-]{1,64}", re.ASCII)
# Nearly every video id is of these characters: one match instead of a look at each of them.
_PLAIN_VIDEO_ID = re.compile(r"[ -~]{1,128}", re.ASCII)


def check_video_id(video_id: str) -> int:
    """1 to 128 bytes of UTF-8 without control characters; how many. Raises InvalidRequest, like all of these."""
    try:
        if _PLAIN_VIDEO_ID.fullmatch(video_id):
            return len(video_id)
    except TypeError:
        raise wrong_type("video_id", "a str", video_id) from None
    length = len(video_id.encode(errors="surrogatepass"))
    is_clean = not any(unicodedata.category(character) in ("Cc", "Cs") for character in video_id)
    if not 1 <= length <= 128 or not is_clean:
        raise InvalidRequest.of("video_id", "must be 1 to 128 bytes of UTF-8 without control characters")
    return length


def check_event_type(event_type: str) -> int:
    """1 to 64 of [a-z0-9_.-]; how many."""
    try:
        if _EVENT_TYPE.fullmatch(event_type):
            return len(event_type)
    except TypeError:
        raise wrong_type("event_type", "a str", event_type) from None
    raise InvalidRequest.of("event_type", "must be 1 to 64 of the characters a-z, 0-9, _, . and -")


def check_actor_id(actor_id: str) -> int:
    """At most 128 bytes of UTF-8, which has no lone surrogates, and no NUL; how many."""
    if not isinstance(actor_id, str):
        raise wrong_type("actor_id", "a str", actor_id)
    try:
        length = len(actor_id.encode())
    except UnicodeEncodeError:
        length = 129
    if length > 128 or "\0" in actor_id:
        raise InvalidRequest.of("actor_id", "must be at most 128 bytes of UTF-8 without NUL")
    return length


def check_value(value: float) -> None:
    """Finite and within ±2^53, up to which a double holds every integer."""
    number = check_number(value, "value")
    if not isfinite(number) or abs(value) > MAX_MAGNITUDE:
        raise InvalidRequest.of("value", VALUE)


def check_number(value: float, field: str) -> float:
    """A number, as a double. `field`: its path."""
    try:
        if isnan(value):  # raises for a string, which float would read
            raise InvalidRequest.of(field, "is not a number; leave it out instead")
        return float(value)
    except TypeError:
        raise wrong_type(field, "a number", value) from None
    except OverflowError:  # an int beyond all doubles
        raise InvalidRequest.of(field, VALUE) from None


def read_event_time(event_time: datetime) -> int:
    """Microseconds since 1970-01-01 UTC, from the year 2000; how far ahead it may be is for the service to say."""
    time_us = to_microseconds(event_time, "event_time")
    if time_us < EARLIEST_EVENT_US:
        raise InvalidRequest.of("event_time", f"{event_time.isoformat()} is before the year 2000")
    return time_us
