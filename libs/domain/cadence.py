"""Cadences: which bins a job works on in which period. Pure; times are in UTC.

Periods are counted from Monday 1970-01-05 00:00 UTC, so that with periods of a day and seven bins the number of a
period is a weekday, and with any other number of bins none of them is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

ANCHOR = datetime(1970, 1, 5, tzinfo=UTC)
_DAY_HOURS = 24


@dataclass(frozen=True, slots=True)
class Cadence:
    """In period n the bins (n + phase + offset) % bin_max are selected, for each offset."""

    period_hours: int
    bin_max: int
    offsets: tuple[int, ...]
    phase: int = 0

    @property
    def period(self) -> timedelta:
        """The length of a period."""
        return timedelta(hours=self.period_hours)

    @property
    def cycle(self) -> timedelta:
        """The time in which each bin is selected once for each offset."""
        return self.period * self.bin_max


PRESETS: Mapping[str, Cadence] = {
    "twice_weekly": Cadence(24, 7, (0, 4)),
    "four_times_weekly": Cadence(24, 7, (0, 2, 4, 6)),
    "daily": Cadence(24, 1, (0,)),
    "weekly": Cadence(24, 7, (0,)),
    "biweekly": Cadence(24, 14, (0,)),
    "monthly": Cadence(24, 28, (0,)),
    "every_12_hours": Cadence(12, 1, (0,)),
}


def period_index(cadence: Cadence, at: datetime) -> int:
    """The number of the period that a time is in."""
    return (at - ANCHOR) // cadence.period


def period_start(cadence: Cadence, at: datetime) -> datetime:
    """The logical time of the period that a time is in: its start."""
    return ANCHOR + period_index(cadence, at) * cadence.period


def get_current_bin_numbers(cadence: Cadence, at: datetime) -> list[int]:
    """The bins that are selected in the period of a time, ascending.

    A run asks with its logical time, however late it is.
    """
    number = period_index(cadence, at) + cadence.phase
    return sorted({(number + offset) % cadence.bin_max for offset in cadence.offsets})


def largest_gap(cadence: Cadence) -> timedelta:
    """The longest time between the starts of two periods that select the same bin."""
    # A bin b is selected in the periods b - phase - offset, so the gaps are those between the offsets.
    offsets = sorted({offset % cadence.bin_max for offset in cadence.offsets})
    gaps = [later - earlier for earlier, later in pairwise([*offsets, offsets[0] + cadence.bin_max])]
    return max(gaps) * cadence.period


def coverage(cadence: Cadence) -> list[int]:
    """How many periods of a cycle select each of the bins 0, 1, 2, …; 0 is a bin that is never reached."""
    counts = [0] * cadence.bin_max
    for number in range(cadence.bin_max):
        for bin_number in get_current_bin_numbers(cadence, ANCHOR + number * cadence.period):
            counts[bin_number] += 1
    return counts


def is_period(hours: int) -> bool:
    """Whether periods of this length begin at the same times of each day: they divide a day, or are whole days."""
    return hours > 0 and (_DAY_HOURS % hours == 0 or hours % _DAY_HOURS == 0)
