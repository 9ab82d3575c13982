"""What the file implies: every count, without Tally."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from loadtests.demo.rises import EVENT_TYPES, Rise


@dataclass(frozen=True, slots=True)
class Oracle:
    """The count of each video and event type, in all and by day. What is not there is 0."""

    video_ids: tuple[str, ...]
    """every video of the file, also those without an event"""
    of_video: Counter[tuple[str, str]]
    """by video id and event type"""
    of_day: Counter[tuple[str, str, date]]
    """by video id, event type and day"""
    busy_day: dict[str, date]
    """of each video with events, the last day that has some: it is the hardest to get right by luck"""

    @property
    def of_type(self) -> dict[str, int]:
        """By event type, over all videos."""
        totals = dict.fromkeys(EVENT_TYPES, 0)
        for (_, event_type), count in self.of_video.items():
            totals[event_type] += count
        return totals

    @property
    def event_count(self) -> int:
        """All events."""
        return self.of_video.total()


def make_oracle(video_ids: Iterable[str], rises: Iterable[Rise]) -> Oracle:
    """Add the rises up."""
    oracle = Oracle(tuple(sorted(set(video_ids))), Counter(), Counter(), {})
    for rise in rises:
        oracle.of_video[rise.video_id, rise.event_type] += rise.event_count
        oracle.of_day[rise.video_id, rise.event_type, rise.day] += rise.event_count
        oracle.busy_day[rise.video_id] = max(rise.day, oracle.busy_day.get(rise.video_id, rise.day))
    return oracle
