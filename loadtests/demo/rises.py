"""From counters that stand for a whole life to what happened on each day."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date

from loadtests.demo.dataset import Row

EVENT_TYPES = ("view", "like", "comment")
_UNITS = {"view": 1000, "like": 100, "comment": 100}
"""So many of the counter make one event."""


@dataclass(frozen=True, slots=True)
class Rise:
    """So many events of one type happened to a video on one day (UTC); at least 1."""

    video_id: str
    event_type: str
    day: date
    event_count: int


def find_rises(rows: Iterable[Row]) -> Iterator[Rise]:
    """The rises of each video over its highest value so far, which begins with 0.

    What a rise leaves over of its unit is dropped, and not kept for the next one.
    """
    highest: dict[tuple[str, str], int] = {}
    for row in sorted(rows, key=lambda row: row.day):
        counters = (row.views, row.likes, row.comments)
        for event_type, counter in zip(EVENT_TYPES, counters, strict=True):
            key = (row.video_id, event_type)
            before = highest.get(key, 0)
            highest[key] = max(before, counter)
            if event_count := (highest[key] - before) // _UNITS[event_type]:
                yield Rise(row.video_id, event_type, row.day, event_count)
