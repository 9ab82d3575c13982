"""A part of a batch holds the events of its places, and names that these use."""

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.libs.domain.batches import MODEST, ROWS, Row, batch_of, rows_of


@MODEST
@given(st.lists(ROWS, min_size=1, max_size=20), st.data())
def test_two_parts_of_a_batch_are_the_batch(rows: list[Row], data: st.DataObject) -> None:
    middle = data.draw(st.integers(0, len(rows)))
    events = batch_of(rows, spare=("spare", "view"))
    first, last = events.part(0, middle), events.part(middle, None)
    assert rows_of(first) == rows[:middle]
    assert rows_of(last) == rows[middle:]
    for part in (first, last):
        for dictionary, names in (
            (part.video_ids, {row.video_id for row in rows_of(part)}),
            (part.event_types, {row.event_type for row in rows_of(part)}),
            (part.actor_ids, {row.actor_id for row in rows_of(part)} - {None}),
        ):
            assert len(dictionary) == len(names)
            assert set(dictionary) == names
