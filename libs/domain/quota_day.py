"""The days of a quota: from midnight to midnight in a time zone, so that a day has 23, 24 or 25 hours of UTC."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

RESET_MARGIN = timedelta(minutes=1)
"""A call so near a reset may be counted on either side of it by another clock, and is charged to both days."""


def find_zone(name: str) -> ZoneInfo | None:
    """The zone of this IANA name, or None."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name of a folder
        return None


def day_of(at: datetime, zone: ZoneInfo) -> date:
    """The day that a time is in."""
    return at.astimezone(zone).date()


def start_of(day: date, zone: ZoneInfo) -> datetime:
    """When a day begins, in UTC. Where the clock skips midnight, that is the moment at which it does."""
    return datetime.combine(day, time(), tzinfo=zone).astimezone(UTC)


def reset_after(at: datetime, zone: ZoneInfo) -> datetime:
    """When the day that a time is in ends, in UTC."""
    day = day_of(at, zone)
    while (reset := start_of(day := day + timedelta(days=1), zone)) <= at:
        pass  # a zone that crossed the date line skipped a whole day
    return reset


def charged_days(at: datetime, zone: ZoneInfo) -> list[date]:
    """The days that a call at this time is charged to: one, or near a reset two; ascending."""
    return sorted({day_of(at - RESET_MARGIN, zone), day_of(at + RESET_MARGIN, zone)})
