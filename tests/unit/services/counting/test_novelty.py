"""What a log says of rows that it has not flushed yet, and of those that it has."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.domain.entry import Entry
from libs.domain.minutes import MINUTE_US
from services.counting.buffer import Buffer, MinuteRows
from services.counting.entry import NumberedEntry
from services.counting.novelty import Novelty
from tests.unit.libs.domain.batches import Row, batch_of

OPENED = 28_000_000
Key = tuple[str, str, int]

KEYS = st.tuples(st.text("ab", min_size=1, max_size=3), st.sampled_from(["view", "like"]), st.integers(-1, 7))


def rows_of(*keys: Key) -> MinuteRows:
    """One row for each key; minutes count from the opening of the log."""
    events = [Row(video, kind, time_us=(OPENED + minute) * MINUTE_US) for video, kind, minute in keys]
    buffer = Buffer()
    buffer.add(NumberedEntry(1, OPENED * MINUTE_US, Entry(uuid.UUID(int=0), 0, 0, b"", batch_of(events))))
    return buffer.rows()


def note(novelty: Novelty, *keys: Key) -> dict[Key, bool]:
    rows = rows_of(*keys)
    minutes = (rows.cells.minute - OPENED).tolist()
    return dict(
        zip(
            zip(rows.video_id, rows.event_type, minutes, strict=True),
            novelty.note(rows).tolist(),
            strict=True,
        )
    )


def test_a_row_is_new_once() -> None:
    novelty = Novelty(OPENED)
    a, b, later = ("a", "view", 1), ("b", "view", 1), ("a", "view", 2)
    assert note(novelty, a) == {a: True}
    assert note(novelty, a, b, later) == {a: False, b: True, later: True}
    assert note(novelty, a, b, later) == {a: False, b: False, later: False}
    like = ("a", "like", 1)
    assert note(novelty, like) == {like: True}


@pytest.mark.parametrize(("minute", "is_known"), [(-1000, False), (-1, False), (0, True), (5, True)])
def test_of_minutes_before_the_log_nothing_is_known(minute: int, is_known: bool) -> None:
    assert note(Novelty(OPENED), ("a", "view", minute)) == {("a", "view", minute): is_known}


def test_nothing_is_known_of_what_was_forgotten() -> None:
    novelty = Novelty(OPENED)
    for minute in range(1, 9):
        assert note(novelty, ("a", "view", minute)) == {("a", "view", minute): True}
    assert note(novelty, ("b", "view", 1), ("b", "view", 8)) == {
        ("b", "view", 1): False,
        ("b", "view", 8): True,
    }


def test_after_a_surprise_no_row_of_those_minutes_is_new() -> None:
    novelty = Novelty(OPENED)
    note(novelty, ("a", "view", 1), ("a", "view", 2))
    novelty.distrust(rows_of(("a", "view", 2)))
    told = note(novelty, ("b", "view", 1), ("b", "view", 2), ("b", "view", 3))
    assert told == {("b", "view", 1): False, ("b", "view", 2): False, ("b", "view", 3): True}


@given(st.lists(st.lists(KEYS, min_size=1, max_size=8), max_size=20))
def test_no_row_is_new_twice(flushes: list[list[Key]]) -> None:
    novelty = Novelty(OPENED)
    seen: set[Key] = set()
    for keys in flushes:
        told = note(novelty, *keys)
        assert not any(is_new for key, is_new in told.items() if key in seen)
        seen.update(keys)


def test_nearly_all_of_many_rows_are_told_apart() -> None:
    novelty = Novelty(OPENED)
    keys = [(f"video {n}", kind, 1) for n in range(20_000) for kind in ("view", "like")]
    assert all(note(novelty, *keys[:20_000]).values())
    later = note(novelty, *keys[20_000:])
    assert sum(later.values()) > 0.98 * len(later)
