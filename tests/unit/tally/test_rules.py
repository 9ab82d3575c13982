"""The client refuses what the service refuses, and nothing else."""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.domain import rules as service
from tally.client import InvalidRequest, rules

# Long, short, and made of what the rules speak of; lone surrogates cannot travel at all.
TEXT = st.text(st.characters(), max_size=140) | st.text(
    st.sampled_from("aZ0_.- é\x00\x7f\x85日"), max_size=140
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def accepts(check: Callable[[Any], object], value: object) -> bool:
    try:
        check(value)
    except InvalidRequest:
        return False
    return True


@settings(deadline=None)
@given(TEXT)
def test_a_video_id_is_judged_as_by_the_service(text: str) -> None:
    assert accepts(rules.check_video_id, text) == (service.check_video_id(text) is None)


@settings(deadline=None)
@given(TEXT)
def test_an_event_type_is_judged_as_by_the_service(text: str) -> None:
    assert accepts(rules.check_event_type, text) == (service.check_event_type(text) is None)


@settings(deadline=None)
@given(TEXT)
def test_an_actor_id_is_judged_as_by_the_service_and_lone_surrogates_are_refused(text: str) -> None:
    can_travel = text == text.encode(errors="replace").decode()
    assert accepts(rules.check_actor_id, text) == (can_travel and service.check_actor_id(text) is None)


@settings(deadline=None)
@given(st.floats() | st.sampled_from([2.0**53, -(2.0**53), 2.0**53 + 2]))
def test_a_value_is_judged_as_by_the_service(value: float) -> None:
    assert accepts(rules.check_value, value) == (service.check_value(value) is None)


def test_a_value_that_is_not_a_number_says_what_to_do() -> None:
    with pytest.raises(InvalidRequest, match="leave it out"):
        rules.check_value(math.nan)


@settings(deadline=None)
@given(st.datetimes(timezones=st.just(UTC)))
def test_a_time_is_judged_as_by_the_service_but_for_its_clock(time: datetime) -> None:
    time_us = (time - EPOCH) // timedelta(microseconds=1)
    is_fine = service.check_event_time(time_us, now_us=2**62) is None
    assert accepts(rules.read_event_time, time) == is_fine
    if is_fine:
        assert rules.read_event_time(time) == time_us


@settings(deadline=None)
@given(TEXT)
def test_the_length_of_a_string_is_that_of_its_bytes(text: str) -> None:
    for check in (rules.check_video_id, rules.check_event_type, rules.check_actor_id):
        if accepts(check, text):
            assert check(text) == len(text.encode())
