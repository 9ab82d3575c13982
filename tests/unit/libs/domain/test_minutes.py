"""Ranges of whole minutes, half-open."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.domain.minutes import LAST_MINUTE, MINUTE_US, MinuteRange, minute_of, range_of
from tests.unit.libs.domain.batches import MODEST, TIMES_US

Y2000_US = 946_684_800_000_000
FIRST_MINUTE = Y2000_US // MINUTE_US
BOUNDS = st.none() | st.integers(-(2**83), 2**83)  # as far as the seconds of a Timestamp go


def holds(minutes: MinuteRange, minute: int) -> bool:
    return (minutes.start is None or minutes.start <= minute) and (
        minutes.end is None or minute < minutes.end
    )


@MODEST
@given(TIMES_US, st.lists(TIMES_US, min_size=1, max_size=5))
def test_adjacent_ranges_add_up(time_us: int, cuts: list[int]) -> None:
    bounds = [None, *sorted(cuts), None]
    ranges = [range_of(start, end) for start, end in pairwise(bounds)]
    assert sum(holds(minutes, minute_of(time_us)) for minutes in ranges) == 1


@MODEST
@given(TIMES_US)
def test_a_range_begins_with_its_start_and_ends_before_its_end(time_us: int) -> None:
    minute = minute_of(time_us)
    assert minute * MINUTE_US <= time_us < (minute + 1) * MINUTE_US
    assert holds(range_of(time_us, None), minute)
    assert not holds(range_of(time_us, None), minute - 1)
    assert not holds(range_of(None, time_us), minute)
    assert holds(range_of(None, time_us), minute - 1)


def test_both_bounds_are_taken_down_to_their_minute() -> None:
    start, end = Y2000_US + 5 * MINUTE_US + 59_999_999, Y2000_US + 7 * MINUTE_US + 1
    assert range_of(start, end) == MinuteRange(FIRST_MINUTE + 5, FIRST_MINUTE + 7)


def test_a_start_before_2000_is_unbounded_and_an_end_before_it_holds_nothing() -> None:
    assert range_of(Y2000_US - 1, None) == MinuteRange()
    assert range_of(Y2000_US - 1, None).is_unbounded
    assert range_of(Y2000_US, None) == MinuteRange(start=FIRST_MINUTE)
    before = range_of(-Y2000_US, Y2000_US - 1)
    assert not before.is_unbounded
    assert not holds(before, FIRST_MINUTE)


@MODEST
@given(st.integers(-(2**83), 2**83))
def test_a_range_that_ends_where_it_starts_is_empty(time_us: int) -> None:
    minutes = range_of(time_us, time_us)
    own = min(max(minute_of(time_us), FIRST_MINUTE), LAST_MINUTE - 1)  # there are no events of other minutes
    assert not any(holds(minutes, minute) for minute in (own, FIRST_MINUTE, LAST_MINUTE - 1))


@MODEST
@given(BOUNDS, BOUNDS)
def test_every_bound_fits_the_column_and_a_start_after_the_end_is_refused(
    start_us: int | None, end_us: int | None
) -> None:
    if start_us is not None and end_us is not None and start_us > end_us:
        with pytest.raises(ValueError, match="end_time"):
            range_of(start_us, end_us)
        return
    minutes = range_of(start_us, end_us)
    for bound in (minutes.start, minutes.end):
        assert bound is None or 0 <= bound <= LAST_MINUTE
