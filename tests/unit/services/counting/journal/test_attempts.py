"""What inserts that come to nothing teach."""

import pytest

from services.counting.journal.attempts import Attempts


@pytest.fixture
def attempts() -> Attempts:
    return Attempts(1_000)


def test_a_group_that_came_to_nothing_is_tried_with_half_of_its_entries(attempts: Attempts) -> None:
    for expected in (500, 250, 125):
        attempts.note_failure(attempts.group_entries)
        assert attempts.group_entries == expected
    attempts.note_failure(1)
    assert attempts.group_entries == 1


def test_it_grows_again_when_inserts_get_through(attempts: Attempts) -> None:
    attempts.note_failure(1_000)
    attempts.note_failure(500)
    for expected in (500, 1_000, 1_000):
        attempts.note_success()
        assert attempts.group_entries == expected


def test_one_failure_is_no_outage_and_several_in_a_row_are(attempts: Attempts) -> None:
    attempts.note_failure(1)
    assert not attempts.is_away
    assert attempts.pause_seconds == 0
    attempts.note_failure(1)
    assert attempts.is_away
    attempts.note_success()
    assert not attempts.is_away


def test_the_pause_doubles_up_to_the_longest(attempts: Attempts) -> None:
    attempts.note_failure(1)
    pauses = []
    for _ in range(7):
        attempts.note_failure(1)
        pauses.append(attempts.pause_seconds)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
