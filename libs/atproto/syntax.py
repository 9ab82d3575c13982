"""The syntax of the protocol's identifiers: DIDs, NSIDs, record keys, at-URIs, TIDs and times.

Specifications: https://atproto.com/specs/did, …/nsid, …/record-key, …/at-uri-scheme, …/tid, …/lexicon#datetime.
"""

import re
from datetime import UTC, datetime, timedelta, timezone

MAX_DID_CHARACTERS = 2048
MAX_NSID_CHARACTERS = 317
MAX_DOMAIN_CHARACTERS = 253
MAX_AT_URI_CHARACTERS = 8192

_DID = re.compile(r"did:[a-z]+:[a-zA-Z0-9._:%-]*[a-zA-Z0-9._-]", re.ASCII)
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_NSID = re.compile(
    rf"[a-zA-Z](?:[a-zA-Z0-9-]{{0,61}}[a-zA-Z0-9])?(?:\.{_LABEL})+\.[a-zA-Z][a-zA-Z0-9]{{0,62}}", re.ASCII
)
_HANDLE = re.compile(rf"(?:{_LABEL}\.)+[a-zA-Z](?:[a-zA-Z0-9-]{{0,61}}[a-zA-Z0-9])?", re.ASCII)
_RECORD_KEY = re.compile(r"[a-zA-Z0-9._:~-]{1,512}", re.ASCII)
_TID = re.compile(r"[234567abcdefghij][234567abcdefghijklmnopqrstuvwxyz]{12}", re.ASCII)
_DATETIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,20}))?(?:Z|([+-])(\d\d):(\d\d))", re.ASCII
)
_TID_DIGITS = "234567abcdefghijklmnopqrstuvwxyz"
_TID_VALUES = {digit: value for value, digit in enumerate(_TID_DIGITS)}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def is_did(text: str) -> bool:
    """Whether it is a DID of any method."""
    return len(text) <= MAX_DID_CHARACTERS and _DID.fullmatch(text) is not None


def is_handle(text: str) -> bool:
    """Whether it is a handle: a domain name."""
    return len(text) <= MAX_DOMAIN_CHARACTERS and _HANDLE.fullmatch(text) is not None


def is_nsid(text: str) -> bool:
    """Whether it names a collection or a method, such as `app.bsky.feed.post`."""
    return len(text) <= MAX_NSID_CHARACTERS and _NSID.fullmatch(text) is not None


def is_record_key(text: str) -> bool:
    """Whether it may name a record within its collection."""
    return text not in (".", "..") and _RECORD_KEY.fullmatch(text) is not None


def is_at_uri(text: str) -> bool:
    """Whether it is `at://AUTHORITY`, `at://AUTHORITY/COLLECTION` or `at://AUTHORITY/COLLECTION/KEY`."""
    if not text.startswith("at://") or len(text) > MAX_AT_URI_CHARACTERS:
        return False
    authority, *path = text.removeprefix("at://").split("/")
    if not (is_did(authority) or is_handle(authority)) or len(path) > 2:
        return False
    return all(check(part) for check, part in zip((is_nsid, is_record_key), path, strict=False))


def is_tid(text: str) -> bool:
    """Whether it is a timestamp identifier."""
    return _TID.fullmatch(text) is not None


def time_of_tid(tid: str) -> int:
    """Microseconds since 1970-01-01 UTC in a TID. Raises ValueError when it is none."""
    if not is_tid(tid):
        raise ValueError(f"{tid!r} is not a TID")
    number = 0
    for digit in tid:
        number = number << 5 | _TID_VALUES[digit]
    return number >> 10


def make_tid(time_us: int, clock_id: int = 0) -> str:
    """The TID of a time in microseconds since 1970-01-01 UTC and a clock identifier from 0 to 1023."""
    if not (0 <= time_us < 1 << 53 and 0 <= clock_id < 1 << 10):
        raise ValueError(f"no TID holds {time_us} µs and the clock {clock_id}")
    number = time_us << 10 | clock_id
    return "".join(_TID_DIGITS[number >> shift & 31] for shift in range(60, -1, -5))


def has_datetime_syntax(text: str) -> bool:
    """Whether it is written as a time must be, with its zone; it may still name a month 13."""
    return _DATETIME.fullmatch(text) is not None and not text.endswith("-00:00")


def parse_datetime(text: str) -> int:
    """Microseconds since 1970-01-01 UTC; digits below that are cut off. Raises ValueError when it is no time."""
    found = _DATETIME.fullmatch(text)
    if found is None or text.endswith("-00:00"):
        raise ValueError(f"{text!r} is not a time with its zone")
    *numbers, fraction, sign, hours, minutes = found.groups()
    year, month, day, hour, minute, second = map(int, numbers)
    offset = timedelta(0)
    if sign:
        if int(minutes) > 59:
            raise ValueError(f"{text!r} has a zone that does not exist")
        offset = timedelta(hours=int(hours), minutes=int(minutes)) * (-1 if sign == "-" else 1)
    # Python's calendar begins with the year 1; the year 0 has the same days as any other leap year.
    shift = 400 if year == 0 else 0
    time = datetime(year + shift, month, day, hour, minute, second, tzinfo=timezone(offset))
    micros = int((fraction or "").ljust(6, "0")[:6])
    result = (time - _EPOCH) // timedelta(microseconds=1) + micros - shift * _MICROS_OF_400_YEARS // 400
    if result < _YEAR_0:
        raise ValueError(f"{text!r} is before the year 0")
    return result


_MICROS_OF_400_YEARS = 146_097 * 86_400_000_000
_YEAR_0 = (datetime(400, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1) - _MICROS_OF_400_YEARS
