from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import numpy as np

from loadtests.demo.__main__ import FILE
from loadtests.demo.dataset import read_dataset
from loadtests.demo.events import cut, make_events
from loadtests.demo.rises import EVENT_TYPES, Rise, find_rises
from tally.client import Columns

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = date(2017, 10, 9)
MIDNIGHT = datetime(2017, 10, 9, tzinfo=UTC)


def told(columns: Columns) -> list[tuple[str, str, datetime]]:
    """The events in columns, one by one, without the code that laid them out."""
    videos = np.frombuffer(columns.video_index, "<u2").tolist()
    types = np.frombuffer(columns.event_type_index, "<u2").tolist()
    times = np.frombuffer(columns.event_time_us, "<i8").tolist()
    return [
        (columns.video_ids[video], columns.event_types[kind], EPOCH + timedelta(microseconds=time))
        for video, kind, time in zip(videos, types, times, strict=True)
    ]


def test_the_events_of_a_rise_are_spread_evenly_over_its_day() -> None:
    (columns,) = cut(make_events([Rise("a", "view", DAY, 4)]), 10)
    assert told(columns) == [("a", "view", MIDNIGHT + timedelta(hours=hours)) for hours in (3, 9, 15, 21)]


def test_one_event_is_at_noon() -> None:
    (columns,) = cut(make_events([Rise("a", "like", DAY, 1)]), 10)
    assert told(columns) == [("a", "like", MIDNIGHT + timedelta(hours=12))]


def test_events_come_in_the_order_of_time_whatever_their_video() -> None:
    rises = [Rise("b", "view", DAY, 3), Rise("a", "comment", DAY, 2), Rise("a", "view", DAY, 3)]
    (columns,) = cut(make_events(rises), 10)
    times = [time for _, _, time in told(columns)]
    assert times == sorted(times)
    assert Counter(video_id for video_id, _, _ in told(columns)) == {"a": 5, "b": 3}


def test_columns_hold_only_the_videos_of_their_events() -> None:
    pieces = list(cut(make_events([Rise(f"video {n}", "view", DAY, 1) for n in range(7)]), 3))
    assert [len(piece) for piece in pieces] == [3, 3, 1]
    assert [len(piece.video_ids) for piece in pieces] == [3, 3, 1]


def test_all_events_of_the_file_lie_in_their_days_and_none_is_lost() -> None:
    rises = list(find_rises(read_dataset(FILE).rows))
    events = make_events(rises)
    assert len(events) == 3_009_372
    assert all(before <= after for before, after in pairwise(events.time_us[::1000].tolist()))

    series = events.video.astype(np.int64) * len(EVENT_TYPES) + events.event_type
    day = events.time_us // 86_400_000_000
    keys, counts = np.unique(series * 100_000 + day, return_counts=True)
    found = dict(zip(keys.tolist(), counts.tolist(), strict=True))
    expected: Counter[int] = Counter()
    place = {video_id: at for at, video_id in enumerate(events.video_ids)}
    for rise in rises:
        of_series = place[rise.video_id] * len(EVENT_TYPES) + EVENT_TYPES.index(rise.event_type)
        expected[of_series * 100_000 + (rise.day - date(1970, 1, 1)).days] += rise.event_count
    assert found == expected
