"""Times as people and files write them."""

import re
from datetime import UTC, datetime, timedelta

from services.cli.failure import USAGE, Failure

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?", re.ASCII)


def parse_time(text: str) -> datetime:
    """ISO 8601, in UTC unless it names a zone, or seconds since 1970-01-01 UTC; an aware datetime.

    Raises ValueError with a sentence.
    """
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return of_unix_seconds(float(text))
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is no time: write 2017-10-09T12:30:00Z (ISO 8601) or 1507552200 (seconds since 1970)"
        ) from None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


def of_unix_seconds(seconds: float) -> datetime:
    """The time so many seconds after 1970-01-01 UTC, to the microsecond. Raises ValueError."""
    try:
        return _EPOCH + timedelta(seconds=seconds)
    except (OverflowError, ValueError):
        raise ValueError(f"{seconds:g} seconds since 1970 is no year; are they milliseconds?") from None


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
