"""The rules for single fields. Each rule returns None, or a description of the allowed values."""

import math
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from tally.contract.function import Function
from tally.contract.request_id import AHEAD_MS

VIEW = "view"
"""The event type of CountViewEvent and GetViewsCount."""
NO_TIME = -(2**63)
"""In the column of times: this event has no time of its own."""
NO_ACTOR = 2**16 - 1
"""In the column of actors: this event has no actor."""

MAX_EVENTS = 50_000
FEW_NAMES = 256
"""So many a dictionary may always hold, used or not."""
MAX_ID_BYTES = 128
"""Maximum length of the ids of videos and actors."""
MAX_EVENT_TYPE_BYTES = 64
MAX_REQUEST_BYTES = 8 * 1024 * 1024
EARLIEST_EVENT_US = 946_684_800_000_000
"""2000-01-01 UTC, in microseconds since 1970-01-01 UTC."""
FUTURE_TOLERANCE_US = AHEAD_MS * 1000
MAX_MAGNITUDE = float(2**53)

_FUNCTIONS = frozenset(Function)
_EVENT_TYPE = re.compile(r"[a-z0-9_.-]{1,64}", re.ASCII)
# Nearly every video id is of these characters: one match instead of a look at each of them.
_PLAIN = bytes(range(0x20, 0x7F))
_PLAIN_VIDEO_ID = re.compile(r"[ -~]{1,128}", re.ASCII)

VIDEO_ID = "must be 1 to 128 bytes of UTF-8 without control characters"
EVENT_TYPE = "must be 1 to 64 of the characters a-z, 0-9, _, . and -"
ACTOR_ID = "must be at most 128 bytes of UTF-8 without NUL"
VALUE = "must be a finite number within ±2^53"
VALUE_MISSING = "this function needs a value"
ACTOR_MISSING = "this function needs an actor_id"
DICTIONARY = f"must hold at most one name for each event, or {FEW_NAMES}; leave out those that no event has"
EVENT_TIME = "must be from the year 2000 to 5 minutes ahead of the server's time"


def check_dictionary(name_count: int, event_count: int) -> str | None:
    """A name costs more than an event: a few bytes of events must not bring hundreds of thousands of them."""
    return None if name_count <= max(event_count, FEW_NAMES) else DICTIONARY


def check_video_id(video_id: str) -> str | None:
    """1 to 128 bytes of UTF-8 without control characters (Unicode category Cc)."""
    if _PLAIN_VIDEO_ID.fullmatch(video_id):
        return None
    fits = 1 <= len(video_id.encode(errors="surrogatepass")) <= MAX_ID_BYTES
    clean = not any(unicodedata.category(character) in ("Cc", "Cs") for character in video_id)
    return None if fits and clean else VIDEO_ID


def are_video_ids(video_ids: Sequence[str]) -> bool:
    """Whether each of them is one: the same as asking `check_video_id` for each, but all in one string, and faster."""
    joined = "\0".join(video_ids).encode(errors="surrogatepass")
    between = joined.translate(None, _PLAIN)
    if (
        len(between) == len(video_ids) - 1
        and "" not in video_ids
        and max(map(len, video_ids)) <= MAX_ID_BYTES
    ):
        return True  # nothing but plain characters, and what was put between the ids
    return not any(map(check_video_id, video_ids))


@lru_cache(maxsize=4096)  # there are few, and they come again and again
def check_event_type(event_type: str) -> str | None:
    """1 to 64 of [a-z0-9_.-]."""
    return None if _EVENT_TYPE.fullmatch(event_type) else EVENT_TYPE


def check_actor_id(actor_id: str) -> str | None:
    """At most 128 bytes of UTF-8, which has no lone surrogates, and none of them NUL: a text of Postgres has none."""
    try:
        size = len(actor_id) if actor_id.isascii() else len(actor_id.encode())
    except UnicodeEncodeError:
        return ACTOR_ID
    return None if size <= MAX_ID_BYTES and "\0" not in actor_id else ACTOR_ID


def check_value(value: float) -> str | None:
    """Finite and within ±2^53, up to which a double holds every integer."""
    return None if math.isfinite(value) and abs(value) <= MAX_MAGNITUDE else VALUE


def check_function(number: int) -> str | None:
    """A number of `Function`, UNSPECIFIED included."""
    return None if number in _FUNCTIONS else f"is {number}, which is no function of this api"


def check_nanos(nanos: int) -> str | None:
    """The nanoseconds of a Timestamp, which count forward from its second whatever the sign of that."""
    return None if 0 <= nanos < 1_000_000_000 else "must be from 0 to 999,999,999"


def check_event_time(time_us: int, now_us: int) -> str | None:
    """From the year 2000 to 5 minutes ahead of `now_us`; both in microseconds since 1970-01-01 UTC."""
    return None if EARLIEST_EVENT_US <= time_us <= now_us + FUTURE_TOLERANCE_US else EVENT_TIME
