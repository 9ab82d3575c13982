"""Times as people and files write them."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from services.cli.terminal.failure import USAGE, Failure

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US_PER_UNIT = {"s": 1_000_000, "ms": 1_000, "us": 1}
_PLAUSIBLE_US = range(946_684_800_000_000, 4_102_444_800_000_000)
"""From 2000 to 2100: a number without a unit must lie there in one of the units. So each has one meaning: in seconds
it has 9 or 10 digits, in milliseconds 12 or 13, in microseconds 15 or 16; 4 digits are a year, and 8 a day."""
_NUMBER = re.compile(r"([+-]?\d{1,30})(\.\d{0,30})? ?(s|ms|us)?", re.ASCII)
_MONTH = re.compile(r"\d{4}-\d{2}", re.ASCII)
_DATE_DIGITS = (4, 8)
# The standard library takes any character before the time of day, and so reads the zone of `2024-12-10-05:00` as one.
_DAY_AND_TIME = re.compile(r"\d{4}-?(?:\d{2}-?\d{2}|W\d{2}-?\d)(?:[Tt ].*)?", re.ASCII)
_EXAMPLES = (
    "write 2017-10-09T12:30:00Z, 20171009 or 2017 (ISO 8601), or a number since 1970 with its unit: 1507552200s, "
    "1507552200000ms, 1507552200000000us"
)


def parse_time(text: str) -> datetime:
    """ISO 8601 in its extended or basic form, in UTC unless it names a zone, or a number since 1970-01-01 UTC.

    A year, a month or a day is its beginning. A number needs a unit (s, ms, us), or lies between 2000 and 2100 in one
    of them. Returns an aware datetime; raises ValueError with a sentence.
    """
    text = text.strip()
    number = _NUMBER.fullmatch(text)
    if number is None or (len(text) in _DATE_DIGITS and text.isdecimal()):
        return _parse_iso(text)
    whole, fraction, unit = number.groups()
    return _of_number(Decimal(whole + fraction) if fraction else int(whole), unit, text)


def of_number(number: float) -> datetime:
    """The time of a number without a unit, as JSON has it, to the microsecond. Raises ValueError with a sentence."""
    return _of_number(Decimal(repr(number)), None, f"{number!r}")


def _parse_iso(text: str) -> datetime:
    day = f"{text}-01-01" if len(text) == len("2024") else f"{text}-01" if _MONTH.fullmatch(text) else text
    try:
        if not _DAY_AND_TIME.fullmatch(day):
            raise ValueError
        time = datetime.fromisoformat(day)
    except ValueError:
        raise ValueError(f"{text!r} is no time: {_EXAMPLES}") from None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


def _of_number(number: int | Decimal, unit: str | None, given: str) -> datetime:
    """`unit`: None takes the one in which the number is plausible."""
    if isinstance(number, Decimal) and not number.is_finite():
        number = 0
    for name, us in _US_PER_UNIT.items():
        time_us = round(number * us)
        if name == unit or (unit is None and time_us in _PLAUSIBLE_US):
            break
    else:
        raise ValueError(
            f"{given} is no time between 2000 and 2100, be it in seconds, milliseconds or microseconds since 1970: "
            f"{_EXAMPLES}"
        )
    try:
        return _EPOCH + timedelta(microseconds=time_us)
    except OverflowError:
        raise ValueError(f"{given} is after the year 9999, or before the year 1: {_EXAMPLES}") from None


def parse_option(text: str | None, option: str) -> datetime | None:
    """The time that an option names; None if it was not given. Raises Failure."""
    try:
        return None if text is None else parse_time(text)
    except ValueError as error:
        raise Failure(f"{option}: {error}", USAGE) from error


def parse_range(start: str | None, end: str | None) -> tuple[datetime | None, datetime | None]:
    """What `--from` and `--to` name. Raises Failure."""
    first, last = parse_option(start, "--from"), parse_option(end, "--to")
    if first is not None and last is not None and first > last:
        raise Failure(f"--from must not be after --to: {start} is after {end}", USAGE)
    return first, last
