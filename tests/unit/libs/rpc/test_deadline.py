"""What is left of a deadline, and what of it an outgoing call gets."""

import contextvars
from collections.abc import Iterator

import pytest

from libs.rpc.deadline import call_timeout, has_passed, remaining_seconds, set_deadline
from tally.contract.errors import DeadlineExceeded


class Now:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture(autouse=True)
def no_deadline_left_behind() -> Iterator[None]:
    """Each test starts without a deadline, and leaves none to the next."""
    set_deadline(None)
    yield
    set_deadline(None)


def test_without_a_deadline_nothing_runs_out() -> None:
    assert remaining_seconds() is None
    assert call_timeout(cap_s=7, shave_s=0.1) == 7


def test_what_is_left_shrinks_as_time_passes_and_goes_below_zero() -> None:
    now = Now()
    set_deadline(2, now)
    now.seconds += 1.5
    assert remaining_seconds(now) == 0.5
    now.seconds += 1
    assert remaining_seconds(now) == -0.5


def test_a_deadline_has_passed_when_a_timer_set_for_it_may_have_fired() -> None:
    now = Now()
    assert not has_passed(now)
    set_deadline(2, now)
    now.seconds += 1.9
    assert not has_passed(now)
    now.seconds += 0.099
    assert has_passed(now)
    now.seconds += 5
    assert has_passed(now)


def test_an_outgoing_call_gets_what_is_left_less_the_shave() -> None:
    now = Now()
    set_deadline(2, now)
    assert call_timeout(cap_s=10, shave_s=0.25, now=now) == 1.75


def test_an_outgoing_call_gets_no_more_than_its_cap() -> None:
    now = Now()
    set_deadline(60, now)
    assert call_timeout(cap_s=10, shave_s=0.25, now=now) == 10


def test_a_call_with_no_time_left_is_not_begun() -> None:
    now = Now()
    set_deadline(0.25, now)
    with pytest.raises(DeadlineExceeded):
        call_timeout(cap_s=10, shave_s=0.25, now=now)


def test_a_deadline_is_seen_only_where_it_was_set() -> None:
    contextvars.copy_context().run(set_deadline, 1)
    assert remaining_seconds() is None
