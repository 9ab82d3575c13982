"""Each rule at its edges."""

import math
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.domain.column_rules import find_bad_times
from tally.contract import rules
from tally.contract.rules import NO_TIME

NOW = 1_800_000_000_000_000
Y2000_US = 946_684_800_000_000
FIVE_MINUTES_US = 300_000_000
CONTROL = [*range(0x20), *range(0x7F, 0xA0)]


@pytest.mark.parametrize(
    "video_id",
    ["a", " ", "~", "x" * 128, "é" * 64, "日" * 42 + "ab", "🎬" * 32, "MBdVXkSdhwU", "a\u200bb", "\u2028"],
)
def test_a_video_id_may_be_up_to_128_bytes_of_any_text(video_id: str) -> None:
    assert rules.check_video_id(video_id) is None


@pytest.mark.parametrize("video_id", ["", "x" * 129, "é" * 64 + "a", "日" * 43, "🎬" * 32 + "a"])
def test_a_video_id_is_measured_in_bytes_of_utf_8(video_id: str) -> None:
    assert rules.check_video_id(video_id) == rules.VIDEO_ID


@pytest.mark.parametrize("code_point", CONTROL, ids=hex)
def test_no_control_character_is_let_into_a_video_id(code_point: int) -> None:
    assert unicodedata.category(chr(code_point)) == "Cc"
    for video_id in (chr(code_point), "a" + chr(code_point), "日" + chr(code_point) + "本"):
        assert rules.check_video_id(video_id) == rules.VIDEO_ID


def test_half_of_a_surrogate_pair_is_no_text() -> None:
    # protobuf lets none in; JSON does
    assert rules.check_video_id("a\ud800") == rules.VIDEO_ID
    assert rules.check_event_type("\ud800") == rules.EVENT_TYPE
    assert rules.check_actor_id("\ud800") == rules.ACTOR_ID


@pytest.mark.parametrize("event_type", ["a", "view", "seconds_watched", "a-b.c_9", "x" * 64, "..."])
def test_an_event_type_is_up_to_64_of_its_characters(event_type: str) -> None:
    assert rules.check_event_type(event_type) is None


@pytest.mark.parametrize(
    "event_type", ["", "x" * 65, "View", "a b", "a\n", "é", "a/b", "a:b", "\u0663", "\u017f", "\u212a"]
)
def test_an_event_type_is_nothing_else(event_type: str) -> None:
    assert rules.check_event_type(event_type) == rules.EVENT_TYPE


@pytest.mark.parametrize("actor_id", ["", "\n\x7f", "x" * 128, "é" * 64, "🎬" * 32])
def test_an_actor_is_up_to_128_bytes_of_almost_anything(actor_id: str) -> None:
    assert rules.check_actor_id(actor_id) is None


@pytest.mark.parametrize("actor_id", ["x" * 129, "é" * 64 + "x", "日" * 43, "🎬" * 33])
def test_an_actor_is_measured_in_bytes_too(actor_id: str) -> None:
    assert rules.check_actor_id(actor_id) == rules.ACTOR_ID


@pytest.mark.parametrize("actor_id", ["\0", "x\0", "x" * 40 + "\0"])
def test_an_actor_has_no_nul(actor_id: str) -> None:
    assert rules.check_actor_id(actor_id) == rules.ACTOR_ID


@pytest.mark.parametrize("value", [0.0, -0.0, 0.5, 5e-324, float(2**53), -float(2**53)])
def test_a_value_is_any_number_up_to_2_to_the_53(value: float) -> None:
    assert rules.check_value(value) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, float(2**53 + 2), -float(2**53 + 2)])
def test_a_value_is_nothing_beyond(value: float) -> None:
    assert rules.check_value(value) == rules.VALUE


@pytest.mark.parametrize(
    ("time_us", "fits"),
    [
        (Y2000_US - 1, False),
        (Y2000_US, True),
        (NOW, True),
        (NOW + FIVE_MINUTES_US, True),
        (NOW + FIVE_MINUTES_US + 1, False),
    ],
)
def test_an_event_is_of_this_century_and_not_of_the_future(time_us: int, fits: bool) -> None:
    assert (rules.check_event_time(time_us, NOW) is None) is fits
    bad = find_bad_times(np.array([NOW, time_us, NO_TIME]), NOW)
    assert bad.tolist() == ([] if fits else [1])


@pytest.mark.parametrize(
    ("names", "events", "fits"), [(256, 1, True), (257, 1, False), (300, 300, True), (301, 300, False)]
)
def test_a_dictionary_has_no_more_names_than_events_unless_they_are_few(
    names: int, events: int, fits: bool
) -> None:
    assert (rules.check_dictionary(names, events) is None) is fits


def test_the_limits_are_those_of_the_api() -> None:
    assert (rules.MAX_EVENTS, rules.MAX_REQUEST_BYTES) == (50_000, 8_388_608)


@pytest.mark.parametrize(
    "bad", ["", "x" * 129, "ж" * 65, "a\0b", "\0", "tab\t", "\x7f", "\x80", "line\n", "\ud800"], ids=ascii
)
@pytest.mark.parametrize("others", [[], ["a"], ["a", "é"], ["x" * 128, "b"]], ids=len)
def test_a_bad_video_id_is_noticed_wherever_it_stands(bad: str, others: list[str]) -> None:
    assert rules.are_video_ids(others)
    for place in range(len(others) + 1):
        assert not rules.are_video_ids([*others[:place], bad, *others[place:]])


@given(st.lists(st.text(max_size=130), max_size=5))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_video_ids_are_judged_together_as_each_by_itself(video_ids: list[str]) -> None:
    assert rules.are_video_ids(video_ids) == (not any(map(rules.check_video_id, video_ids)))
