"""What the answers of a shard say of its life."""

import pytest

from services.partitioner.routing.liveness import Life, Liveness
from tests.support.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def liveness(clock: Clock) -> Liveness:
    return Liveness(clock, failures=2, timeout_s=1.0)


def life_of(liveness: Liveness) -> Life:
    """A function, because mypy would take two looks at one attribute for the same."""
    return liveness.life


def fail(liveness: Liveness, clock: Clock, after_s: float = 1.0) -> None:
    asked_at = clock.seconds
    clock.seconds += after_s
    liveness.note_failure(asked_at)


def test_nobody_is_live_before_the_first_answer(liveness: Liveness, clock: Clock) -> None:
    assert life_of(liveness) is Life.UNHEARD
    liveness.note_sign()
    fail(liveness, clock)
    assert life_of(liveness) is Life.UNHEARD
    liveness.note_answer(serving=True)
    assert life_of(liveness) is Life.LIVE


def test_whoever_says_that_it_does_not_serve_is_believed_at_once(liveness: Liveness) -> None:
    liveness.note_answer(serving=True)
    liveness.note_answer(serving=False)
    assert life_of(liveness) is Life.DRAINING
    liveness.note_sign()  # it still answers what it has
    assert life_of(liveness) is Life.DRAINING


def test_only_failures_in_a_row_make_it_silent(liveness: Liveness, clock: Clock) -> None:
    liveness.note_answer(serving=True)
    for _ in range(3):
        fail(liveness, clock)
        assert life_of(liveness) is Life.LIVE
        liveness.note_sign()
        clock.seconds += 0.1
    fail(liveness, clock)
    fail(liveness, clock)
    assert life_of(liveness) is Life.SILENT


def test_one_answer_brings_it_back(liveness: Liveness, clock: Clock) -> None:
    fail(liveness, clock)
    fail(liveness, clock)
    assert life_of(liveness) is Life.SILENT
    liveness.note_answer(serving=True)
    fail(liveness, clock)
    assert life_of(liveness) is Life.LIVE


def test_a_failure_of_a_probe_that_was_overtaken_counts_for_nothing(liveness: Liveness, clock: Clock) -> None:
    liveness.note_answer(serving=True)
    asked_at = clock.seconds
    clock.seconds += 0.9
    liveness.note_sign()
    clock.seconds += 0.1
    for _ in range(5):
        liveness.note_failure(asked_at)
    assert life_of(liveness) is Life.LIVE


def test_a_failure_that_was_noticed_too_late_speaks_of_this_process(liveness: Liveness, clock: Clock) -> None:
    liveness.note_answer(serving=True)
    clock.seconds += 1
    for _ in range(5):
        fail(liveness, clock, after_s=30.0)
    assert life_of(liveness) is Life.LIVE
