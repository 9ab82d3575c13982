import pytest

from tally.client import Columns, Event, Violation
from tally.client._buffering.blame import find_bad_events

COLUMNS = Columns.of(
    [Event("a"), Event("b", "like", actor_id="me"), Event("a", "like"), Event("c", actor_id="you")]
)


@pytest.mark.parametrize(
    ("field", "places"),
    [
        ("columns.video_ids[0]", [0, 2]),
        ("columns.video_ids[2]", [3]),
        ("columns.event_types[1]", [1, 2]),
        ("columns.actor_ids[0]", [1]),
        ("columns.value[2]", [2]),
        ("columns.event_time_us[3]", [3]),
        ("columns.video_ids[9]", []),
        ("columns.value[9]", []),
    ],
)
def test_a_path_leads_to_its_events(field: str, places: list[int]) -> None:
    violation = Violation(field, "is bad")
    assert find_bad_events([violation], COLUMNS) == dict.fromkeys(places, violation)


def test_the_first_thing_that_is_wrong_with_an_event_is_told() -> None:
    first, second = Violation("columns.video_ids[0]", "one"), Violation("columns.value[0]", "two")
    assert find_bad_events([first, second], COLUMNS) == {0: first, 2: first}


@pytest.mark.parametrize("field", ["request_id", "columns", "columns.video_index", "events[1].video_id"])
def test_what_is_wrong_with_the_whole_request_is_no_events_fault(field: str) -> None:
    named = Violation("columns.value[0]", "is bad")
    assert find_bad_events([named, Violation(field, "is bad")], COLUMNS) == {}
