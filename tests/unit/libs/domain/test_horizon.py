"""The door and the floor, and the distance between them."""

import pytest

from libs.domain.horizon import floor_at, is_inside
from tally.contract.request_id import make_request_id, time_ms_of

NOW = 1_800_000_000_000
MINUTE = 60_000
DAY = 24 * 60 * MINUTE


@pytest.mark.parametrize(
    ("id_ms", "inside"),
    [
        (NOW - DAY - 1, False),
        (NOW - DAY, True),
        (NOW, True),
        (NOW + 5 * MINUTE, True),
        (NOW + 5 * MINUTE + 1, False),
    ],
)
def test_the_door_takes_a_day_back_and_five_minutes_ahead(id_ms: int, inside: bool) -> None:
    assert is_inside(id_ms, NOW) is inside


def test_the_floor_is_half_an_hour_behind_the_door() -> None:
    assert time_ms_of(floor_at(NOW)) == NOW - DAY - 30 * MINUTE


def test_what_passed_the_door_is_above_the_floor_for_half_an_hour() -> None:
    oldest = make_request_id(NOW - DAY)
    assert is_inside(time_ms_of(oldest), NOW)
    assert oldest >= floor_at(NOW + 30 * MINUTE)
    assert oldest < floor_at(NOW + 30 * MINUTE + 1)
