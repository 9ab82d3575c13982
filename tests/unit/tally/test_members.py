"""How rows are cut into requests, and how a wrong one is named."""

from hypothesis import given
from hypothesis import strategies as st

from tally.client._scheduler.members import Video, cut, shift_rows
from tally.contract.errors import InvalidRequest, Violation


@given(st.lists(st.integers(0, 60), max_size=40))
def test_every_row_is_in_one_request_in_its_order(sizes: list[int]) -> None:
    rows = [Video(f"v{number}", title="t" * size).to_message() for number, size in enumerate(sizes)]
    batches = list(cut(rows, most_rows=5, most_bytes=100))
    assert [row for batch in batches for row in batch] == rows
    for number, batch in enumerate(batches):
        assert 1 <= len(batch) <= 5
        assert len(batch) == 1 or sum(row.ByteSize() for row in batch) <= 100
        if number:  # the row was kept for this one because there was no room
            before = [*batches[number - 1], batch[0]]
            assert len(before) > 5 or sum(row.ByteSize() for row in before) > 100


def test_a_wrong_row_is_named_by_its_place_among_all() -> None:
    violations = [Violation("videos[3].title", "is long"), Violation("videos", "are many")]
    shifted = shift_rows(InvalidRequest.received("x", reason="R", violations=violations), 5_000)
    assert [each.field for each in shifted.violations] == ["videos[5003].title", "videos"]
    assert str(shifted) == "videos[5003].title: is long; videos: are many"
    assert shifted.reason == "R"
    assert str(shift_rows(InvalidRequest.received("no details"), 5_000)) == "no details"
