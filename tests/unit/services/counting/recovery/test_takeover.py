"""Who is given up for dead, by a clock that the test turns: seconds, one look each unless it says otherwise."""

import pytest

from services.counting.recovery.takeover import Takeover

DEAD, ALIVE, NEW = 1, 2, 3


@pytest.fixture
def takeover() -> Takeover:
    return Takeover(takeover_seconds=10, look_seconds=1)


def test_a_log_is_given_up_when_its_beat_has_not_moved_for_the_takeover_time(takeover: Takeover) -> None:
    looks = [takeover.look({DEAD: 7, ALIVE: second}, second) for second in range(13)]
    assert looks == [[]] * 10 + [[DEAD]] * 3


def test_a_beat_begins_the_time_anew(takeover: Takeover) -> None:
    for second in range(10):
        assert takeover.look({DEAD: 7}, second) == []
    for second in range(10, 20):
        assert takeover.look({DEAD: 8}, second) == []
    assert takeover.look({DEAD: 8}, 20) == [DEAD]


def test_a_beat_that_goes_back_is_a_beat(takeover: Takeover) -> None:
    for second in range(30):
        assert takeover.look({ALIVE: -second}, second) == []


def test_a_log_is_not_blamed_for_the_time_before_it_was_seen(takeover: Takeover) -> None:
    for second in range(100):
        takeover.look({ALIVE: second}, second)
    for second in range(100, 110):
        assert takeover.look({ALIVE: second, NEW: 0}, second) == []
    assert takeover.look({ALIVE: 110, NEW: 0}, 110) == [NEW]


def test_a_shard_that_was_frozen_blames_nobody_for_it(takeover: Takeover) -> None:
    takeover.look({ALIVE: 0, DEAD: 0}, 0)
    # Everything stood still, as when a machine sleeps: after an hour the beats are the same.
    assert takeover.look({ALIVE: 0, DEAD: 0}, 3600) == []
    # From then on it is seen who goes on. The hour was worth 2 seconds.
    looks = [takeover.look({ALIVE: second, DEAD: 0}, 3600 + second) for second in range(1, 10)]
    assert looks == [[]] * 7 + [[DEAD]] * 2


def test_time_without_postgres_is_worth_as_much_as_two_looks(takeover: Takeover) -> None:
    # Cut off, a shard cannot look. It looks every 5 seconds here, and 9 seconds are not 10.
    looks = [takeover.look({DEAD: 0}, 5.0 * look) for look in range(7)]
    assert looks == [[]] * 5 + [[DEAD]] * 2


def test_looks_that_come_often_do_not_shorten_the_time(takeover: Takeover) -> None:
    looks = [takeover.look({DEAD: 0}, tenth / 10) for tenth in range(100)]
    assert looks == [[]] * 100
    assert takeover.look({DEAD: 0}, 10.1) == [DEAD]


def test_a_log_that_was_settled_is_forgotten(takeover: Takeover) -> None:
    for second in range(11):
        last = takeover.look({DEAD: 0}, second)
    assert last == [DEAD]
    assert takeover.look({}, 11) == []
    assert takeover.look({DEAD: 0}, 12) == []
