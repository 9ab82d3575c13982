"""What a log says of rows that it has not flushed yet, and of those that it has."""

import uuid
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.domain.entry import Entry
from libs.domain.minutes import MINUTE_US
from services.counting.flush.buffer import Buffer, MinuteRows
from services.counting.flush.insert_hint import InsertHint
from services.counting.journal.entry import NumberedEntry
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


def note(hint: InsertHint, *keys: Key, now: int = 1) -> dict[Key, bool]:
    rows = rows_of(*keys)
    minutes = (rows.cells.minute - OPENED).tolist()
    told = hint.note(rows, OPENED + now).tolist()
    return dict(zip(zip(rows.video_id, rows.event_type, minutes, strict=True), told, strict=True))


def test_a_row_is_new_once() -> None:
    hint = InsertHint(OPENED)
    a, b, later = ("a", "view", 1), ("b", "view", 1), ("a", "view", 2)
    assert note(hint, a) == {a: True}
    assert note(hint, a, b, later) == {a: False, b: True, later: True}
    assert note(hint, a, b, later) == {a: False, b: False, later: False}
    like = ("a", "like", 1)
    assert note(hint, like) == {like: True}


@pytest.mark.parametrize(
    ("minute", "is_known"),
    [(-1000, False), (0, False), (1, True), (6, True), (7, False), (1_000_000, False)],
)
def test_nothing_is_known_of_minutes_before_the_log_or_far_ahead(minute: int, is_known: bool) -> None:
    assert note(InsertHint(OPENED), ("a", "view", minute)) == {("a", "view", minute): is_known}


def test_only_the_latest_minutes_are_remembered() -> None:
    hint = InsertHint(OPENED)
    for minute in range(1, 500):
        ahead, late = ("a", "view", minute + 5), ("a", "view", minute - 3)
        told = note(hint, ("a", "view", minute), ahead, late, now=minute)
        assert (told[ahead], told[late]) == (True, False)
        assert len(hint._flushed) <= 8


def test_many_minutes_at_once_take_no_more_memory() -> None:
    hint = InsertHint(OPENED)
    told = note(hint, *(("a", "view", minute) for minute in range(1, 1_441)), now=1_440)
    assert [minute for (_, _, minute), is_new in told.items() if is_new] == [1_438, 1_439, 1_440]
    assert len(hint._flushed) == 3


def test_a_clock_that_runs_ahead_does_not_spoil_the_present() -> None:
    hint = InsertHint(OPENED)
    for now in range(1, 60):
        told = note(hint, (f"video {now}", "view", now), (f"video {now}", "view", now + 5), now=now)
        assert all(told.values())


def test_after_a_conflict_nothing_of_the_minute_is_new() -> None:
    hint = InsertHint(OPENED)
    note(hint, ("a", "view", 1), ("a", "view", 2), now=2)
    hint.note_conflict(OPENED + 2)
    told = note(hint, ("b", "view", 1), ("b", "view", 2), ("b", "view", 3), now=3)
    assert told == {("b", "view", 1): False, ("b", "view", 2): False, ("b", "view", 3): True}


def test_conflicts_that_go_on_make_it_wait_longer_and_longer_up_to_a_limit() -> None:
    hint, conflicts = InsertHint(OPENED), []
    for now in range(1, 60):
        if note(hint, (f"video {now}", "view", now), now=now)[f"video {now}", "view", now]:
            conflicts.append(now)
            hint.note_conflict(OPENED + now)
    assert [later - earlier for earlier, later in pairwise(conflicts)] == [1, 2, 4, 8, *[9] * 4]
    quiet = note(hint, ("a", "view", 100), now=100)
    hint.note_conflict(OPENED + 100)
    later = note(hint, ("a", "view", 101), now=101)
    assert quiet | later == {("a", "view", 100): True, ("a", "view", 101): True}


@given(st.lists(st.lists(KEYS, min_size=1, max_size=8), max_size=20))
def test_no_row_is_new_twice(flushes: list[list[Key]]) -> None:
    hint = InsertHint(OPENED)
    seen: set[Key] = set()
    for keys in flushes:
        told = note(hint, *keys, now=3)
        assert not any(is_new for key, is_new in told.items() if key in seen)
        seen.update(keys)


def test_nearly_all_of_many_rows_are_told_apart() -> None:
    hint = InsertHint(OPENED)
    keys = [(f"video {n}", kind, 1) for n in range(20_000) for kind in ("view", "like")]
    note(hint, *keys[:20_000])
    later = note(hint, *keys[20_000:])
    assert sum(later.values()) > 0.98 * len(later)
