"""Waits that grow, up to a cap."""

from hypothesis import given
from hypothesis import strategies as st

from tally.contract.backoff import Backoff, spread_s

BACKOFF = Backoff(first_s=0.1, longest_s=5.0)


def test_the_cap_doubles_with_each_retry_and_ends_at_the_longest() -> None:
    assert [BACKOFF.cap_s(retry) for retry in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert BACKOFF.cap_s(10**9) == 5.0


@given(st.integers(0, 100))
def test_a_pause_is_a_part_of_its_cap(retry: int) -> None:
    assert 0.0 <= BACKOFF.pause_s(retry) <= BACKOFF.cap_s(retry)


@given(st.floats(0.0, 1e6))
def test_a_delay_that_was_asked_for_is_kept_and_at_most_a_fifth_is_added(delay_s: float) -> None:
    assert max(delay_s, 0.01) <= spread_s(delay_s) <= 1.2 * max(delay_s, 0.01)
