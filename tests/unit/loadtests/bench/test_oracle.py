"""What the counts should be, and what is said of those that are not."""

from collections import Counter

import numpy as np
import pytest

from loadtests.bench.events import EVENT_TYPES, ZIPF, Cursor, make_events
from loadtests.bench.oracle import Counts, count_exactly, find_fault


@pytest.fixture
def cursor() -> Cursor:
    """Two passes and a half over a few hundred events."""
    cursor = Cursor(make_events(200, ZIPF, seed=1), 10)
    for _ in cursor.take_up_to(500):
        pass
    return cursor


def counts_of(cursor: Cursor) -> Counter[tuple[str, str]]:
    """The same as the oracle, event by event."""
    counts: Counter[tuple[str, str]] = Counter()
    for at in range(cursor.taken):
        event = at % len(cursor.events)
        video_id = cursor.events.video_ids[cursor.events.video[event]]
        counts[video_id, EVENT_TYPES[cursor.events.event_type[event]]] += 1
    return counts


def as_rows(counts: Counter[tuple[str, str]]) -> Counts:
    return Counts([video for video, _ in counts], [name for _, name in counts], list(counts.values()))


def test_the_oracle_counts_what_was_given_out_over_all_passes(cursor: Cursor) -> None:
    assert count_exactly(cursor).sum() == cursor.taken == 500
    assert find_fault(cursor, as_rows(counts_of(cursor))) is None


@pytest.mark.parametrize("change", [-1, 1])
def test_one_event_too_few_or_too_many_is_a_fault(cursor: Cursor, change: int) -> None:
    counts = counts_of(cursor)
    (video_id, event_type), right = counts.most_common(1)[0]
    counts[video_id, event_type] += change
    fault = find_fault(cursor, as_rows(counts))
    assert fault
    assert f"{500 + change} events counted of 500, 1 counts are wrong" in fault
    assert f"{event_type} of {video_id}: {right + change} instead of {right}" in fault


def test_an_event_under_the_wrong_type_is_a_fault_though_the_sum_is_right(cursor: Cursor) -> None:
    counts = counts_of(cursor)
    (video_id, event_type), _ = counts.most_common(1)[0]
    other = next(name for name in EVENT_TYPES if name != event_type)
    counts[video_id, event_type] -= 1
    counts[video_id, other] += 1
    fault = find_fault(cursor, as_rows(counts))
    assert fault
    assert "500 events counted of 500, 2 counts are wrong" in fault


def test_counts_of_what_was_never_sent_are_a_fault(cursor: Cursor) -> None:
    counts = counts_of(cursor)
    counts["stranger", "view"] = 1
    assert "1 rows are of videos or types that were never sent" in (find_fault(cursor, as_rows(counts)) or "")


def test_a_cursor_gives_out_every_event_once_a_pass() -> None:
    events = make_events(1_050, ZIPF, seed=1)
    cursor = Cursor(events, 100)
    requests = list(cursor.take_up_to(1_050))
    assert [len(request) for request in requests] == [100] * 10 + [50]
    assert np.concatenate([request.video for request in requests]).tolist() == events.video.tolist()
    assert cursor.take().video.tolist() == events.video[:100].tolist()
    assert cursor.taken == 1_150
