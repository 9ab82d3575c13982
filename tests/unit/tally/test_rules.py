"""The client refuses what the contract refuses, and what is of a wrong type."""

import math
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tally.client import Client, Columns, Event, InvalidRequest
from tally.client._checks import rules
from tally.contract import rules as contract

# Long, short, and made of what the rules speak of; lone surrogates cannot travel at all.
TEXT = st.text(st.characters(), max_size=140) | st.text(
    st.sampled_from("aZ0_.- é\x00\x7f\x85日"), max_size=140
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@settings(deadline=None)
@given(TEXT)
def test_a_string_is_judged_by_the_rule_and_its_bytes_are_counted(text: str) -> None:
    for rule, check in (
        (contract.check_video_id, rules.check_video_id),
        (contract.check_event_type, rules.check_event_type),
        (contract.check_actor_id, rules.check_actor_id),
    ):
        if rule(text) is None:
            assert check(text) == len(text.encode())
        else:
            with pytest.raises(InvalidRequest):
                check(text)


@pytest.mark.parametrize("value", [math.inf, -math.inf, 2.0**53 + 2, 2**53 + 1])
def test_a_value_is_judged_by_the_rule(value: float) -> None:
    with pytest.raises(InvalidRequest, match="finite"):
        rules.check_value(value)
    rules.check_value(2**53)


def test_a_value_that_is_not_a_number_says_what_to_do() -> None:
    with pytest.raises(InvalidRequest, match="leave it out"):
        rules.check_value(math.nan)


@settings(deadline=None)
@given(st.datetimes(timezones=st.just(UTC)))
def test_a_time_is_judged_by_the_rule_but_for_the_clock_of_the_service(time: datetime) -> None:
    time_us = (time - EPOCH) // timedelta(microseconds=1)
    if contract.check_event_time(time_us, now_us=2**62) is None:
        assert rules.read_event_time(time) == time_us
    else:
        with pytest.raises(InvalidRequest, match="before the year 2000"):
            rules.read_event_time(time)


WRONG: list[tuple[str, Any]] = [
    ("value", 10**400),
    ("value", -(10**400)),
    ("value", "5"),
    ("value", b"5"),
    ("event_time", date(2026, 1, 1)),
    ("event_time", "2026-01-01T00:00Z"),
    ("event_time", 1_767_225_600),
    ("video_id", None),
    ("video_id", 5),
    ("video_id", ["v"]),
    ("video_id", "\ud800"),
    ("event_type", None),
    ("event_type", b"view"),
    ("actor_id", 5),
    ("actor_id", ["a"]),
    ("actor_id", "\ud800"),
]


@pytest.mark.parametrize(("field", "given"), WRONG)
async def test_what_is_of_a_wrong_type_is_an_invalid_request_however_it_is_handed_in(
    field: str, given: object
) -> None:
    fields: dict[str, Any] = {"video_id": "v", field: given}
    event = Event(**fields)
    async with Client("127.0.0.1:1", timeout=0.1) as client:
        for hand_in in (
            lambda: client.process(event),
            lambda: client.submit_event(event),
            lambda: client.process(event, request_id=client.make_request_id()),
            lambda: client.process_many([event]),
            lambda: anext(client.stream([client.batch([event])])),
        ):
            with pytest.raises(InvalidRequest):
                await hand_in()


async def test_what_is_of_a_wrong_type_in_a_question_is_an_invalid_request() -> None:
    wrong: Any = date(2026, 1, 1)
    async with Client("127.0.0.1:1", timeout=0.1) as client:
        for ask in (
            lambda: client.get_count("v", start=wrong),
            lambda: client.get_views_count("v", end=wrong),
            lambda: client.get_stats(wrong, "view", "sum"),
            lambda: client.get_stats("v", "view", "quantile", quantile=10**400),
        ):
            with pytest.raises(InvalidRequest):
                await ask()


def test_what_is_no_event_is_an_invalid_request() -> None:
    events: Any = ["v"]
    with pytest.raises(InvalidRequest, match=r"events\[0\]"):
        Columns.of(events)


def test_a_wrong_type_is_named_with_the_one_that_is_wanted() -> None:
    wrong: Any = date(2026, 1, 1)
    with pytest.raises(InvalidRequest, match="event_time: must be a datetime with a time zone"):
        rules.read_event_time(wrong)
    with pytest.raises(InvalidRequest, match=r"events\[0\]\.value: must be a finite number"):
        Columns.of([Event("v", value=10**400)])
