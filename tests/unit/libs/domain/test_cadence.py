"""Which bins are worked on in which period."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.domain.cadence import (
    ANCHOR,
    PRESETS,
    Cadence,
    coverage,
    get_current_bin_numbers,
    is_period,
    largest_gap,
    period_index,
    period_start,
)
from tests.unit.libs.domain.batches import MODEST

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
CADENCES = st.builds(
    lambda hours, bin_max, seeds, phase: Cadence(
        hours, bin_max, tuple(sorted({seed % bin_max for seed in seeds})), phase
    ),
    st.sampled_from([1, 2, 3, 4, 6, 8, 12, 24, 48, 168]),
    st.integers(1, 40),
    st.lists(st.integers(0, 1000), min_size=1, max_size=6),
    st.integers(-50, 50),
)
TIMES = st.datetimes(datetime(1960, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


def test_the_table_of_the_week_is_that_of_the_source() -> None:
    """000-24, 000-25"""
    week = [
        get_current_bin_numbers(PRESETS["twice_weekly"], MONDAY + timedelta(days=day)) for day in range(7)
    ]
    assert week == [[0, 4], [1, 5], [2, 6], [0, 3], [1, 4], [2, 5], [3, 6]]


@pytest.mark.parametrize(
    ("preset", "times", "gap_hours"),
    [
        ("twice_weekly", 2, 96),
        ("four_times_weekly", 4, 48),
        ("daily", 1, 24),
        ("weekly", 1, 168),
        ("biweekly", 1, 336),
        ("monthly", 1, 672),
        ("every_12_hours", 1, 12),
    ],
)
def test_each_preset_reaches_every_bin_equally_often(preset: str, times: int, gap_hours: int) -> None:
    """000-24, 000-26, 000-34, T000-08 to T000-12, T000-35"""
    assert set(coverage(PRESETS[preset])) == {times}
    assert largest_gap(PRESETS[preset]) == timedelta(hours=gap_hours)


def test_four_times_a_week_means_gaps_of_one_and_two_days() -> None:
    """000-26"""
    cadence = PRESETS["four_times_weekly"]
    days = [day for day in range(14) if 3 in get_current_bin_numbers(cadence, ANCHOR + timedelta(days=day))]
    assert Counter(later - earlier for earlier, later in pairwise(days)) == {1: 2, 2: 5}


def test_a_day_of_a_week_in_seven_bins_is_its_weekday() -> None:
    """000-16, T000-08, T000-14"""
    weekly = PRESETS["weekly"]
    for day in range(28):
        at = MONDAY + timedelta(days=day)
        assert get_current_bin_numbers(weekly, at) == [at.weekday()]


@MODEST
@given(CADENCES, TIMES)
def test_in_any_cycle_each_bin_is_selected_once_for_each_offset(cadence: Cadence, at: datetime) -> None:
    counts: Counter[int] = Counter()
    for number in range(cadence.bin_max):
        counts.update(get_current_bin_numbers(cadence, at + number * cadence.period))
    assert counts == dict.fromkeys(range(cadence.bin_max), len(cadence.offsets))
    assert coverage(cadence) == [len(cadence.offsets)] * cadence.bin_max


@MODEST
@given(CADENCES, TIMES)
def test_the_largest_gap_is_the_one_that_is_met(cadence: Cadence, at: datetime) -> None:
    """T000-35"""
    start = period_start(cadence, at)
    met = [
        start + number * cadence.period
        for number in range(2 * cadence.bin_max + 1)
        if 0 in get_current_bin_numbers(cadence, start + number * cadence.period)
    ]
    assert max(later - earlier for earlier, later in pairwise(met)) == largest_gap(cadence)


@MODEST
@given(CADENCES, TIMES)
def test_every_moment_of_a_period_selects_what_its_start_selects(cadence: Cadence, at: datetime) -> None:
    """T000-13"""
    start = period_start(cadence, at)
    assert start <= at < start + cadence.period
    assert get_current_bin_numbers(cadence, at) == get_current_bin_numbers(cadence, start)
    assert period_index(cadence, start) * cadence.period + ANCHOR == start


def test_periods_divide_a_day_or_are_whole_days() -> None:
    assert [hours for hours in range(-1, 50) if is_period(hours)] == [1, 2, 3, 4, 6, 8, 12, 24, 48]
