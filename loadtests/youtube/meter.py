"""What the simulated api charges and limits, and the record of it."""

from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

_PACIFIC = ZoneInfo("America/Los_Angeles")


@dataclass(slots=True)
class Meter:
    """Charges each call, also a bad one, to the Pacific day in which it arrives; refuses what is above the limits."""

    units_per_day: int = 10_000
    calls_per_second: int | None = None
    used: Counter[date] = field(default_factory=Counter)
    """units that were charged, by Pacific day; the calls that exceeded the quota are not among them"""
    refused_count: int = 0
    """calls that a limit refused"""
    most_calls_in_a_second: int = 0
    _recent: deque[float] = field(default_factory=deque)

    def is_too_fast(self, now: float) -> bool:
        """Note a call; whether there were more than the limit in the last second."""
        while self._recent and self._recent[0] <= now - 1.0:
            self._recent.popleft()
        if self.calls_per_second is not None and len(self._recent) >= self.calls_per_second:
            self.refused_count += 1
            return True
        self._recent.append(now)
        self.most_calls_in_a_second = max(self.most_calls_in_a_second, len(self._recent))
        return False

    def charge(self, now: float, units: int) -> bool:
        """Charge a call; False when the day's units do not suffice."""
        day = datetime.fromtimestamp(now, UTC).astimezone(_PACIFIC).date()
        if self.used[day] + units > self.units_per_day:
            self.refused_count += 1
            return False
        self.used[day] += units
        return True
