"""The pace of calls: within the limit in every window, and not much slower than it must be (T002-07)."""

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.domain.pace import Limit, Pace

LIMITS = st.builds(
    Limit,
    calls=st.integers(5, 60),
    window_seconds=st.sampled_from([1.0, 7.0, 300.0]),
    burst=st.integers(1, 4),
    delay_seconds=st.sampled_from([0.0, 1.0]),
)


@given(LIMITS, st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=300))
def test_no_window_of_any_start_holds_more_calls_than_the_limit(
    limit: Limit, steps: list[tuple[float, float]]
) -> None:
    """Each step: how long until the next call is asked for, and how late it arrives, as shares of the largest."""
    pace, now, arrivals = Pace(limit), 0.0, []
    for pause, lateness in steps:
        now += pause**4 * limit.window_seconds
        arrivals.append(now + pace.take(now) + lateness * limit.delay_seconds)
    arrivals.sort()
    slack = 1e-9 * limit.window_seconds * len(arrivals)
    for place, arrival in enumerate(arrivals):
        in_window = bisect_left(arrivals, arrival + limit.window_seconds - slack) - place
        assert in_window <= limit.calls


@given(LIMITS)
def test_the_steady_rate_is_the_limit_less_burst_and_delay(limit: Limit) -> None:
    pace = Pace(limit)
    last = [pace.take(0.0) for _ in range(1_000)][-1]
    expected = (1_000 - limit.burst) * limit.interval_seconds
    assert last == pytest.approx(expected, rel=1e-6)


def test_a_pause_holds_the_next_call_back_and_leaves_no_burst_behind() -> None:
    pace = Pace(Limit(calls=11, window_seconds=10, burst=1))
    assert pace.take(0.0) == 0.0
    pace.pause(5.0)
    pace.pause(3.0)
    assert pace.take(0.0) == 5.0
    assert pace.take(0.0) == pytest.approx(6.0)
