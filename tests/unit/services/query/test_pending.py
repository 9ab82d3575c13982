"""What a strong read finds in entries that are not in the rollups yet, against a list of their events."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.domain.cells import Cell
from libs.domain.minutes import MinuteRange
from libs.rpc.columns import encode
from services.query.pending import _cell_in, _decoded
from services.query.question import Question
from tests.unit.libs.domain.batches import MODEST, ROWS, Row, batch_of
from tests.unit.libs.domain.oracle import Truth

NOW_US = 1_800_000_000_000_000
NOW = NOW_US // 60_000_000
RANGES = st.sampled_from(
    [
        MinuteRange(),
        MinuteRange(NOW),
        MinuteRange(None, NOW),
        MinuteRange(NOW, NOW + 1),
        MinuteRange(NOW, NOW),
    ]
)


@MODEST
@given(st.lists(ROWS, min_size=1, max_size=30), RANGES)
def test_it_is_the_events_of_the_video_the_type_and_the_range(rows: list[Row], minutes: MinuteRange) -> None:
    for video_id, event_type in {(row.video_id, row.event_type) for row in rows} | {("none", "view")}:
        expected = [
            row.value
            for row in rows
            if (row.video_id, row.event_type) == (video_id, event_type)
            and (minutes.start or 0)
            <= (NOW_US if row.time_us is None else row.time_us) // 60_000_000
            < (minutes.end or 2**31)
        ]
        Truth(expected).assert_is(_cell_in(batch_of(rows), NOW_US, Question(video_id, event_type, minutes)))


def test_a_name_that_a_dictionary_holds_twice_is_found_at_both_places() -> None:
    events = batch_of([Row("a", "view"), Row("a", "view")], spare=("a", "view"))
    events.video_index[0] = 0
    events.event_type_index[1] = 1
    assert _cell_in(events, NOW_US, Question("a", "view", MinuteRange())) == Cell(2)


@pytest.mark.parametrize("payload", [b"\xff", b"\x22\x02\x09\x00"], ids=["no message", "an index outside"])
def test_an_entry_that_cannot_be_read_hides_no_other(payload: bytes) -> None:
    good = encode(batch_of([Row("a", "view")])).SerializeToString()
    assert [len(events) for events, _ in _decoded([(payload, NOW_US, 0), (good, NOW_US, 0)])] == [1]
