"""When a replica may answer, and which instants can be now."""

import pytest

from services.catalog.freshness import Freshness, Told
from tally.contract.errors import RightsStale

START_US = 1_700_000_000_000_000


def told(at: float, change: int, took: float = 0.0) -> Told:
    """A freshness query whose two statements are sent at once, answered after `took`."""
    return Told(at, at, at + took, change, START_US + int(at * 1_000_000))


class Turned:
    """A clock."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Turned:
    return Turned()


@pytest.fixture
def freshness(clock: Turned) -> Freshness:
    return Freshness(60.0, 500.0, clock)


def test_before_the_first_answer_nothing_is_shown(freshness: Freshness) -> None:
    with pytest.raises(RightsStale):
        freshness.check()


def test_fresh_counts_from_the_sending_of_the_first_statement(freshness: Freshness, clock: Turned) -> None:
    """T004-35."""
    freshness.tell(Told(0.0, 5.0, 6.0, 7, START_US), 7)
    clock.seconds = 60.0
    freshness.check()
    clock.seconds = 60.1
    with pytest.raises(RightsStale):
        freshness.check()


def test_an_answer_counts_only_once_its_change_was_applied(freshness: Freshness, clock: Turned) -> None:
    """A replica whose feed has stopped goes on to ask, and must become stale all the same."""
    freshness.tell(told(0.0, 7), 7)
    clock.seconds = 59.0
    freshness.tell(told(59.0, 8), 7)
    clock.seconds = 61.0
    with pytest.raises(RightsStale):
        freshness.check()
    freshness.apply(8)
    freshness.check()


def test_beginning_anew_makes_an_answer_of_before_worthless(freshness: Freshness) -> None:
    """T004-37: the row was swept, so PutRules did not wait for this replica."""
    freshness.tell(told(0.0, 7), 7)
    freshness.begin_anew()
    with pytest.raises(RightsStale):
        freshness.check()


def test_now_is_every_instant_that_it_can_be(freshness: Freshness, clock: Turned) -> None:
    """T004-41: between the sending and the answer Postgres's clock was read, and both clocks drift by 500 ppm."""
    freshness.tell(told(0.0, 7, took=0.2), 7)
    clock.seconds = 10.2
    earliest, latest = freshness.present()
    assert earliest == pytest.approx(START_US + 10_000_000 - 5_000, abs=5)
    assert latest == pytest.approx(START_US + 10_200_000 + 5_000, abs=5)


def test_a_clock_of_postgres_that_was_set_is_followed_at_the_next_answer(
    freshness: Freshness, clock: Turned
) -> None:
    freshness.tell(told(0.0, 7), 7)
    clock.seconds = 1.0
    freshness.tell(Told(1.0, 1.0, 1.0, 7, START_US + 3_600_000_000), 7)
    earliest, latest = freshness.present()
    assert earliest <= START_US + 3_600_000_000 <= latest
