"""The bin space and its division."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.domain.bins import DEFAULT_SPACE, SOURCE_SPACE, selects_all, skew, values_between
from tests.unit.libs.domain.batches import MODEST


@pytest.mark.parametrize("bin_max", [2, 4, 7, 10, 12, 14, 24, 28, 48, 60, 100, 168, 1440])
def test_the_default_space_falls_evenly_into_every_usual_number_of_bins(bin_max: int) -> None:
    """T000-04"""
    assert skew(DEFAULT_SPACE, bin_max).is_even
    assert skew(DEFAULT_SPACE, bin_max).empty_bins == 0


def test_the_space_of_the_source_is_skewed_as_its_reviewers_computed() -> None:
    """T000-04, T000-05"""
    week, month, hundred = (skew(SOURCE_SPACE, bin_max) for bin_max in (7, 28, 100))
    assert (round(week.largest_share, 5), round(week.smallest_share, 5)) == (0.14341, 0.14244)
    assert (round(month.largest_share, 5), round(month.smallest_share, 5)) == (0.0361, 0.03512)
    assert (round(hundred.largest_share, 5), round(hundred.smallest_share, 5)) == (0.01073, 0.00976)
    assert skew(SOURCE_SPACE, 1440).empty_bins == 415


@MODEST
@given(st.integers(1, 3000), st.integers(1, 3000))
def test_the_skew_is_that_of_the_values_counted_one_by_one(space: int, bin_max: int) -> None:
    counts = [0] * bin_max
    for value in range(space):
        counts[value % bin_max] += 1
    found = skew(space, bin_max)
    assert found.smallest_share == min(counts) / space
    assert found.largest_share == max(counts) / space
    assert found.empty_bins == counts.count(0)


@MODEST
@given(st.integers(1, 120), st.data())
def test_the_listed_values_are_those_between_the_ends_that_fall_into_the_bins(
    bin_max: int, data: st.DataObject
) -> None:
    """T000-01"""
    bins = data.draw(st.sets(st.integers(0, bin_max - 1)))
    first = data.draw(st.integers(0, 600))
    last = data.draw(st.integers(0, 600))
    expected = [value for value in range(first, last + 1) if value % bin_max in bins]
    assert values_between(bins, bin_max, first, last) == expected


@pytest.mark.parametrize(("space", "count"), [(SOURCE_SPACE, 293), (DEFAULT_SPACE, 14_400)])
def test_two_of_seven_bins_are_so_many_values(space: int, count: int) -> None:
    assert len(values_between([0, 4], 7, 0, space - 1)) == count


def test_no_bins_select_nothing_and_all_bins_everything() -> None:
    """T000-06"""
    assert values_between([], 7, 0, 100) == []
    assert not selects_all([], 7)
    assert selects_all(range(7), 7)
    assert selects_all([0], 1)
