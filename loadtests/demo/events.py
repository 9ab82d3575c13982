"""From rises to events in the order in which they happened, laid out as columns."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime

import numpy as np
import numpy.typing as npt

from loadtests.demo.rises import EVENT_TYPES, Rise
from tally.client import Columns

DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Events:
    """n events, ascending by time."""

    video_ids: tuple[str, ...]
    video: npt.NDArray[np.int32]
    """the place of each event's video in `video_ids`"""
    event_type: npt.NDArray[np.uint8]
    """its place in EVENT_TYPES"""
    time_us: npt.NDArray[np.int64]
    """microseconds since 1970-01-01 UTC"""

    def __len__(self) -> int:
        return len(self.time_us)


def make_events(rises: Iterable[Rise]) -> Events:
    """Spread the events of each rise evenly over its day: event i of n at midnight + (i + ½) · 86,400 / n s."""
    rises = list(rises)
    numbers: dict[str, int] = {}
    video = np.array([numbers.setdefault(rise.video_id, len(numbers)) for rise in rises], np.int32)
    event_type = np.array([EVENT_TYPES.index(rise.event_type) for rise in rises], np.uint8)
    n = np.array([rise.event_count for rise in rises], np.int64)
    of_rise = np.repeat(np.arange(len(rises)), n)
    i = np.arange(len(of_rise)) - np.repeat(np.cumsum(n) - n, n)
    midnight_us = np.array([_midnight_us(rise.day) for rise in rises], np.int64)
    time_us = midnight_us[of_rise] + (2 * i + 1) * DAY_US // (2 * n[of_rise])
    order = np.argsort(time_us, kind="stable")
    return Events(tuple(numbers), video[of_rise][order], event_type[of_rise][order], time_us[order])


def cut(events: Events, size: int) -> Iterator[Columns]:
    """Cut events into columns of at most `size`, in order."""
    for start in range(0, len(events), size):
        here = slice(start, start + size)
        videos, video_index = np.unique(events.video[here], return_inverse=True)
        yield Columns(
            video_ids=tuple(events.video_ids[video] for video in videos.tolist()),
            event_types=EVENT_TYPES,
            video_index=video_index.astype("<u2").tobytes(),
            event_type_index=events.event_type[here].astype("<u2").tobytes(),
            event_time_us=events.time_us[here].astype("<i8").tobytes(),
        )


def _midnight_us(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000
