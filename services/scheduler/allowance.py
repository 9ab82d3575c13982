"""The remaining units of a quota, and until when it is closed. Pure."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from libs.domain.quota_day import RESET_MARGIN, day_of, reset_after, start_of

_SLOW_CLOCK = timedelta(minutes=5)
"""So long after a reset the other side may still count for the day before."""
_FIRST_PAUSE = timedelta(minutes=1)
_MOST_DOUBLINGS = 8


@dataclass(frozen=True, slots=True)
class Limit:
    """A quota of units a day."""

    name: str
    units: int
    protected_units: int
    """that only forced work may use"""
    zone: ZoneInfo
    send_within_seconds: float
    closed_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Use:
    """The payments for a day."""

    used: int = 0
    """by work that is not forced"""
    forced: int = 0


@dataclass(frozen=True, slots=True)
class Closing:
    """A quota that the other side says is used up: closed until then, for the so-maniest time on that day."""

    until: datetime
    day: date | None
    times: int


def allows(limit: Limit, use: Use, units: int, *, forced: bool) -> bool:
    """Whether this number of units still fits into a day."""
    if forced:
        return use.used + use.forced + units <= limit.units
    return use.used + units <= limit.units - max(limit.protected_units, use.forced)


def payable_after(day: date, zone: ZoneInfo) -> datetime:
    """When a call is not charged any more to a day that is used up."""
    return start_of(day + timedelta(days=1), zone) + RESET_MARGIN


def closing_after(
    paid_at: datetime, now: datetime, zone: ZoneInfo, closed_day: date | None, closed_times: int
) -> Closing | None:
    """What follows from "used up", said of a batch that was paid at `paid_at`: None if that day is over (R000-09).

    `closed_day` and `closed_times`: of the closing before.
    """
    if reset_after(paid_at, zone) <= now:
        return None
    day = day_of(now, zone)
    if now - start_of(day, zone) >= _SLOW_CLOCK:
        return Closing(reset_after(now, zone), None, 0)
    times = closed_times + 1 if closed_day == day else 1
    return Closing(now + _FIRST_PAUSE * 2 ** min(times - 1, _MOST_DOUBLINGS), day, times)
