"""Pure: which part of a range is read from days, from hours and from minutes.

A range is cut into whole days, whole hours beside them, and at most two edges of less than an hour. A total over all
time is read as such. Minutes that are not rolled up yet are read for the whole range.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from libs.domain.grains import Grain
from libs.domain.minutes import LAST_MINUTE, MinuteRange

Span = tuple[int, int]
"""Minutes since 1970-01-01 UTC: from the first one to before the second one."""

_HOUR, _DAY = Grain.HOUR.minutes, Grain.DAY.minutes


@dataclass(frozen=True, slots=True)
class Spans:
    """The spans of a range by the grain that they are read from. Together they are the range, without overlaps."""

    whole: Span
    """the range itself: of minutes that are not rolled up"""
    edges: Sequence[Span]
    hours: Sequence[Span]
    days: Sequence[Span]
    is_total: bool

    @property
    def edge_hours(self) -> list[int]:
        """The hours, since 1970-01-01 UTC, of which rolled generations are read by the minute; at most two."""
        return sorted({minute // _HOUR for start, end in self.edges for minute in (start, end - 1)})

    @property
    def grains(self) -> list[Grain]:
        """The grains to read, beside minutes."""
        if self.is_total:
            return [Grain.TOTAL]
        return [grain for grain, spans in ((Grain.HOUR, self.hours), (Grain.DAY, self.days)) if spans]

    def of(self, grain: Grain) -> Sequence[Span]:
        """What is read of a grain; of minutes, those of rolled generations."""
        match grain:
            case Grain.MINUTE:
                return self.edges
            case Grain.HOUR:
                return self.hours
            case Grain.DAY:
                return self.days
            case Grain.TOTAL:
                return [(0, 1)] if self.is_total else []


def cut(minutes: MinuteRange) -> Spans:
    """The spans of a range."""
    start = minutes.start or 0
    end = LAST_MINUTE if minutes.end is None else minutes.end
    if minutes.is_unbounded:
        return Spans((start, end), [], [], [], is_total=True)
    # There is nothing after the last minute, so an open end is as good as a whole day.
    first_hour, last_hour = -(-start // _HOUR) * _HOUR, end // _HOUR * _HOUR
    if minutes.end is None:
        last_hour = -(-end // _DAY) * _DAY
    if first_hour >= last_hour:
        return Spans((start, end), _spans((start, end)), [], [], is_total=False)
    edges = _spans((start, first_hour), (last_hour, end))
    first_day, last_day = -(-first_hour // _DAY) * _DAY, last_hour // _DAY * _DAY
    if first_day >= last_day:
        return Spans((start, end), edges, [(first_hour, last_hour)], [], is_total=False)
    hours = _spans((first_hour, first_day), (last_day, last_hour))
    return Spans((start, end), edges, hours, [(first_day, last_day)], is_total=False)


def _spans(*spans: Span) -> list[Span]:
    return [span for span in spans if span[0] < span[1]]
