"""Time ranges in whole minutes since 1970-01-01 UTC, half-open: [start, end)."""

from dataclasses import dataclass

from tally.contract.rules import EARLIEST_EVENT_US

MINUTE_US = 60_000_000
LAST_MINUTE = 2**31 - 1
"""The largest minute that the rollups' column holds: the year 6053."""


@dataclass(frozen=True, slots=True)
class MinuteRange:
    """From `start` up to but without `end`; None is unbounded. Both in minutes."""

    start: int | None = None
    end: int | None = None

    @property
    def is_unbounded(self) -> bool:
        return self.start is None and self.end is None


def minute_of(time_us: int) -> int:
    """The whole minute of a time in microseconds, so that adjacent ranges add up."""
    return time_us // MINUTE_US


def range_of(start_us: int | None, end_us: int | None) -> MinuteRange:
    """Take both bounds down to their whole minute. A start before the year 2000 is unbounded.

    Raises ValueError when the start is after the end.
    """
    if start_us is not None and end_us is not None and start_us > end_us:
        raise ValueError("must not be after end_time")
    start = None if start_us is None or start_us < EARLIEST_EVENT_US else _bound_at(start_us)
    end = None if end_us is None else _bound_at(end_us)
    return MinuteRange(start, end)


def _bound_at(time_us: int) -> int:
    """A caller's bound may be any time; beyond the column there is nothing to count."""
    return min(max(minute_of(time_us), 0), LAST_MINUTE)
