"""The pace of flushes: large enough to be cheap, small enough to be over in time."""

import pytest

from services.counting.flush.pace import Pace
from services.counting.settings import FlushSettings

SETTINGS = FlushSettings(interval_seconds=1.0, max_interval_seconds=30.0, max_cells=500_000)


@pytest.fixture
def pace() -> Pace:
    return Pace(SETTINGS, longest_seconds=8.0)


def test_at_rest_a_flush_comes_at_the_interval(pace: Pace) -> None:
    pace.note(10, 0.01)
    assert pace.pause_seconds == 1.0


@pytest.mark.parametrize(("took", "pause"), [(0.5, 2.0), (2.0, 8.0), (20.0, 30.0)])
def test_a_slow_flush_is_followed_by_a_longer_pause_up_to_the_longest(
    pace: Pace, took: float, pause: float
) -> None:
    pace.note(10, took)
    assert pace.pause_seconds == pause


@pytest.mark.parametrize("microseconds_per_cell", [11, 50, 400])
def test_the_most_cells_are_flushed_within_what_a_transaction_may_take(
    pace: Pace, microseconds_per_cell: float
) -> None:
    for _ in range(20):
        pace.note(pace.due_cells, pace.due_cells * microseconds_per_cell * 1e-6)
    assert 4.0 < pace.most_cells * microseconds_per_cell * 1e-6 < 8.0
    assert pace.due_cells == pace.most_cells // 2


def test_no_more_cells_are_taken_than_the_memory_is_meant_to_hold(pace: Pace) -> None:
    for _ in range(20):
        pace.note(100_000, 0.1)
    assert pace.most_cells == 500_000


def test_a_small_flush_says_nothing_of_the_time_of_a_cell(pace: Pace) -> None:
    before = pace.most_cells
    pace.note(3, 1.0)
    assert pace.most_cells == before


def test_what_a_stall_has_taught_is_forgotten_when_it_is_over(pace: Pace) -> None:
    pace.note(2_100, 6.5)
    assert pace.most_cells < 10_000
    for _ in range(20):
        pace.note(pace.due_cells, pace.due_cells * 10e-6)
    assert pace.most_cells > 400_000


def test_the_slowest_server_still_gets_a_flush(pace: Pace) -> None:
    for _ in range(20):
        pace.note(2_000, 60.0)
    assert 0 < pace.due_cells <= pace.most_cells


def test_an_interval_that_brought_little_is_quiet(pace: Pace) -> None:
    assert pace.is_quiet(0)
    assert not pace.is_quiet(pace.due_cells)


def test_a_flush_that_did_not_get_through_in_time_is_followed_by_one_of_half_its_cells_at_most(
    pace: Pace,
) -> None:
    pace.note_in_doubt(50_000, 8.0)
    assert pace.most_cells <= 25_000


@pytest.mark.parametrize(
    ("cells", "seconds"), [(3, 8.0), (50_000, 0.01)], ids=["few cells", "cut off at once"]
)
def test_a_flush_in_doubt_for_another_reason_says_nothing_of_the_time_of_a_cell(
    pace: Pace, cells: int, seconds: float
) -> None:
    before = pace.most_cells
    pace.note_in_doubt(cells, seconds)
    assert pace.most_cells == before
