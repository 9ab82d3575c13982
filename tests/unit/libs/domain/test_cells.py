"""Cells against exact fractions: however events are parted and merged, they say the same."""

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.domain.cells import NO_CELLS, Cell, Cells, cells_of_events, merge_cells
from tally.contract.errors import Unimplemented
from tally.contract.function import Function
from tests.unit.libs.domain.batches import MODEST
from tests.unit.libs.domain.oracle import Truth, cell_of

FRACTIONS = st.floats(-1e6, 1e6, allow_subnormal=False)
INTEGERS = st.integers(-(2**40), 2**40).map(float)
NEAR = st.floats(0, 1).map(lambda tiny: 1e9 + tiny)  # a sum of squares loses all digits of these
VALUES = st.lists(st.none() | FRACTIONS, max_size=30) | st.lists(st.none() | INTEGERS, max_size=30)
VALUES |= st.lists(NEAR, max_size=30)
KEYS = st.tuples(st.integers(0, 3), st.integers(0, 2))


def one_cell(values: Sequence[float | None]) -> Cell:
    """The single events as columns, added up at once."""
    n = len(values)
    column = np.array([math.nan if value is None else value for value in values])
    (cell,) = cells_in(cells_of_events(np.zeros(n, np.uint64), np.zeros(n, np.int64), column)).values()
    return cell


def cells_in(cells: Cells) -> dict[tuple[int, int], Cell]:
    """The columns as single cells by (series, minute). Each key must come once, ascending."""
    keys = list(zip(cells.series.tolist(), cells.minute.tolist(), strict=True))
    assert all(left < right for left, right in pairwise(keys))
    if cells.values is None:
        return {key: Cell(count) for key, count in zip(keys, cells.count.tolist(), strict=True)}
    columns = [cells.count, *cells.values.columns()]
    return {
        key: Cell(
            count=count,
            value_count=value_count,
            sum=total,
            min=None if math.isnan(least) else least,
            max=None if math.isnan(most) else most,
            m2=m2,
        )
        for key, count, value_count, total, least, most, m2 in zip(
            keys, *(column.tolist() for column in columns), strict=True
        )
    }


def columns_of(events: list[tuple[tuple[int, int], float | None]]) -> Cells:
    values = [math.nan if value is None else value for _, value in events]
    return cells_of_events(
        np.array([series for (series, _), _ in events], np.uint64),
        np.array([minute for (_, minute), _ in events], np.int64),
        None if all(math.isnan(value) for value in values) else np.array(values),
    )


@MODEST
@given(VALUES)
def test_single_events_merged_one_by_one_are_what_they_amount_to(values: list[float | None]) -> None:
    Truth(values).assert_is(cell_of(values))


@MODEST
@given(VALUES.filter(len))
def test_single_events_added_up_at_once_are_what_they_amount_to(values: list[float | None]) -> None:
    Truth(values).assert_is(one_cell(values))


@MODEST
@given(VALUES, VALUES, VALUES)
def test_it_does_not_matter_what_is_merged_first(
    a: list[float | None], b: list[float | None], c: list[float | None]
) -> None:
    left, middle, right = cell_of(a), cell_of(b), cell_of(c)
    for merged in (
        left.merge(middle).merge(right),
        left.merge(middle.merge(right)),
        right.merge(left).merge(middle),
    ):
        Truth([*a, *b, *c]).assert_is(merged)


@MODEST
@given(VALUES)
def test_nothing_added_changes_nothing(values: list[float | None]) -> None:
    cell = cell_of(values)
    assert cell.merge(Cell()) == cell == Cell().merge(cell)


EVENTS = st.lists(st.tuples(KEYS, st.none() | FRACTIONS | INTEGERS), min_size=1, max_size=40) | st.lists(
    st.tuples(KEYS, st.none()), min_size=1, max_size=40
)


@MODEST
@given(EVENTS, st.lists(st.integers(0, 40), max_size=4))
def test_columns_parted_anywhere_and_merged_are_what_they_amount_to(
    events: list[tuple[tuple[int, int], float | None]], cuts: list[int]
) -> None:
    expected: dict[tuple[int, int], list[float | None]] = defaultdict(list)
    for key, value in events:
        expected[key].append(value)
    bounds = [0, *sorted(cuts), len(events)]
    parts = [columns_of(events[start:end]) for start, end in pairwise(bounds) if events[start:end]]
    merged = cells_in(merge_cells(parts))
    assert merged.keys() == expected.keys()
    for key, cell in merged.items():
        Truth(expected[key]).assert_is(cell)


@MODEST
@given(EVENTS)
def test_merging_leaves_its_parts_as_they_were(events: list[tuple[tuple[int, int], float | None]]) -> None:
    part = columns_of(events)
    before = cells_in(part)
    merge_cells([part, part])
    assert cells_in(part) == before


def test_of_nothing_there_are_no_cells() -> None:
    assert len(merge_cells([NO_CELLS])) == len(merge_cells([NO_CELLS, NO_CELLS])) == 0


def test_values_far_from_zero_keep_their_variance() -> None:
    # The textbook's sum of squares gives -1280 for these.
    values = [1e9 + tiny for tiny in (0.1, 0.5, 0.9, 0.3, 0.7)] * 2
    assert statistics.pvariance(values) == pytest.approx(0.08)
    halves = cell_of(values[:5]).merge(cell_of(values[5:]))
    for cell in (one_cell(values), cell_of(values), halves):
        assert cell.m2 / cell.value_count == pytest.approx(0.08, rel=1e-6)


def test_integers_up_to_2_to_the_53_are_summed_exactly() -> None:
    values: list[float | None] = [float(2**53 - 1), -float(2**53 - 1), 1.0, None]
    for cell in (one_cell(values), cell_of(values)):
        assert (cell.count, cell.value_count, cell.sum) == (4, 3, 1.0)


def test_a_single_value_has_no_spread() -> None:
    assert one_cell([0.1]).m2 == cell_of([0.1]).m2 == 0.0


@MODEST
@given(st.lists(FRACTIONS | NEAR, min_size=1, max_size=30))
def test_each_function_is_what_the_textbook_says(values: list[float]) -> None:
    cell = cell_of([*values, None])
    assert cell.evaluate(Function.COUNT) == len(values) + 1
    assert cell.evaluate(Function.SUM) == pytest.approx(math.fsum(values), rel=1e-9, abs=1e-6)
    assert cell.evaluate(Function.AVERAGE) == pytest.approx(statistics.fmean(values), rel=1e-9, abs=1e-6)
    assert cell.evaluate(Function.MIN) == min(values)
    assert cell.evaluate(Function.MAX) == max(values)
    assert cell.evaluate(Function.STDDEV) == pytest.approx(statistics.pstdev(values), rel=1e-6, abs=1e-5)


@pytest.mark.parametrize(
    "function", [Function.SUM, Function.AVERAGE, Function.MIN, Function.MAX, Function.STDDEV]
)
def test_without_values_there_is_no_answer_and_not_0(function: Function) -> None:
    assert Cell(count=3).evaluate(function) is None
    assert cell_of([0.0]).evaluate(function) == 0.0


@pytest.mark.parametrize("function", [Function.DISTINCT, Function.QUANTILE])
def test_what_a_cell_cannot_tell_it_does_not_guess(function: Function) -> None:
    with pytest.raises(Unimplemented, match=f"^{function.name.lower()} is not served yet"):
        cell_of([1.0]).evaluate(function)
