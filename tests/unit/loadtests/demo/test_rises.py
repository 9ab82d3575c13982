from collections.abc import Iterator
from datetime import date

from loadtests.demo.dataset import Row
from loadtests.demo.rises import find_rises


def rows(*counters: tuple[int, int, int], video_id: str = "video") -> Iterator[Row]:
    """One row a day, of (views, likes, comments)."""
    for day, (views, likes, comments) in enumerate(counters, 1):
        yield Row(video_id, "title", date(2017, 9, day), views, likes, comments)


def found(*counters: tuple[int, int, int]) -> list[tuple[int, str, int]]:
    return [(rise.day.day, rise.event_type, rise.event_count) for rise in find_rises(rows(*counters))]


def test_the_first_row_rises_above_0() -> None:
    assert found((4_999, 250, 199)) == [(1, "view", 4), (1, "like", 2), (1, "comment", 1)]


def test_what_is_left_over_is_dropped_and_not_kept_for_the_next_rise() -> None:
    assert found((1_999, 0, 0), (2_001, 0, 0), (3_001, 0, 0)) == [(1, "view", 1), (3, "view", 1)]


def test_only_a_rise_above_the_highest_value_counts() -> None:
    assert found((5_000, 0, 0), (1_000, 0, 0), (5_000, 0, 0), (6_000, 0, 0)) == [
        (1, "view", 5),
        (4, "view", 1),
    ]


def test_rows_are_taken_in_the_order_of_the_days() -> None:
    backwards = reversed(list(rows((1_000, 0, 0), (3_000, 0, 0))))
    assert [(rise.day.day, rise.event_count) for rise in find_rises(backwards)] == [(1, 1), (2, 2)]


def test_videos_rise_by_themselves() -> None:
    both = [*rows((5_000, 0, 0)), *rows((1_000, 0, 0), video_id="other")]
    assert [(rise.video_id, rise.event_count) for rise in find_rises(both)] == [("video", 5), ("other", 1)]
