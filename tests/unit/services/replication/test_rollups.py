"""Rows of the rollups on the wire."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.replication.hashing import Sums
from services.replication.rollups import (
    RollupRow,
    compare_sums,
    read_rollups,
    sum_rows,
    write_rollups,
)
from tally.contract.errors import DataLoss, InvalidRequest

_numbers = st.floats(allow_nan=False, allow_infinity=False)
_counted = st.builds(
    RollupRow,
    st.text(min_size=1, max_size=5),
    st.sampled_from(("view", "like")),
    st.integers(0, 2**31 - 1),
    st.integers(1, 2**31 - 1),
    st.integers(1, 2**62),
    st.just(0),
    st.just(0.0),
    st.none(),
    st.none(),
    st.just(0.0),
)
_valued = st.builds(
    RollupRow,
    st.text(min_size=1, max_size=5),
    st.sampled_from(("watch", "like")),
    st.integers(0, 2**31 - 1),
    st.integers(1, 2**31 - 1),
    st.integers(1, 2**62),
    st.integers(1, 2**62),
    _numbers,
    _numbers,
    _numbers,
    _numbers,
)


def sums_of(rows: list[RollupRow]) -> Sums:
    sums = Sums()
    sum_rows(rows, sums)
    return sums


@given(st.lists(_counted | _valued))
def test_rows_arrive_as_they_were_sent(rows: list[RollupRow]) -> None:
    arrived = read_rollups(type(write_rollups(rows)).FromString(write_rollups(rows).SerializeToString()))
    assert arrived == rows
    assert sums_of(arrived) == sums_of(rows)


@given(_counted | _valued, st.integers(1, 5))
def test_each_number_of_a_row_is_in_its_hash(row: RollupRow, more: int) -> None:
    def other(**changed: object) -> RollupRow:
        values = {name: getattr(row, name) for name in RollupRow.__slots__}
        return RollupRow(**{**values, **changed})

    others = [
        other(count=row.count + more),
        other(minute=row.minute ^ 1),
        other(generation=row.generation ^ 1),
        other(video_id=row.video_id + "x"),
        other(event_type="share"),
        other(value_count=row.value_count + more),
        other(sum=1.0 if row.sum == 0 else 0.0),
        other(m2=1.0 if row.m2 == 0 else 0.0),
    ]
    if row.min is not None:
        others.append(other(min=1.0 if row.min == 0 else 0.0))
    assert sums_of([row]) not in [sums_of([each]) for each in others]
    with pytest.raises(DataLoss):
        compare_sums("pass", sums_of([row]), sums_of(others[:1]))


def test_columns_that_do_not_fit_together_are_refused() -> None:
    row = RollupRow("v", "watch", 1, 1, 2, 2, 3.0, 1.0, 2.0, 0.5)
    for field in ("videos", "types", "minutes", "generations", "sums", "mins", "maxs", "m2s"):
        columns = write_rollups([row])
        columns.ClearField(field)
        with pytest.raises(InvalidRequest):
            read_rollups(columns)
    columns = write_rollups([row])
    columns.videos[0] = 7
    with pytest.raises(InvalidRequest, match="dictionary"):
        read_rollups(columns)
