"""The decoder here is written from ingest.proto alone, with struct, so that it shares nothing with the encoder."""

import math
import struct
from array import array
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tally.client import Columns, Event, Function, InvalidRequest
from tally.client.columns import to_little_endian
from tally.contract.rules import MAX_EVENTS
from tally.ingest.v1.ingest_pb2 import EventColumns

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
EVENTS = st.builds(
    Event,
    video_id=NAMES,
    event_type=st.sampled_from(["view", "like", "seconds_watched"]),
    event_time=st.none() | st.datetimes(timezones=st.just(UTC)),
    value=st.none() | st.floats(allow_nan=False),
    actor_id=st.just("") | NAMES,
)


def decode(message: EventColumns) -> list[Event]:
    count = len(message.video_index) // 2

    def column(data: bytes, code: str, absent: float) -> Sequence[float]:
        return struct.unpack(f"<{count}{code}", data) if data else [absent] * count

    return [
        Event(
            video_id=message.video_ids[int(video)],
            event_type=message.event_types[int(event_type)],
            event_time=None if time == -(2**63) else EPOCH + timedelta(microseconds=time),
            value=None if math.isnan(value) else value,
            actor_id="" if actor == 65535 else message.actor_ids[int(actor)],
        )
        for video, event_type, actor, time, value in zip(
            column(message.video_index, "H", 0),
            column(message.event_type_index, "H", 0),
            column(message.actor_index, "H", 65535),
            column(message.event_time_us, "q", -(2**63)),
            column(message.value, "d", math.nan),
            strict=True,
        )
    ]


@given(st.lists(EVENTS, max_size=30))
def test_columns_hold_every_event_in_order(events: list[Event]) -> None:
    columns = Columns.of(events)
    assert len(columns) == len(events)
    assert decode(EventColumns.FromString(columns.to_message().SerializeToString())) == events


@given(st.lists(EVENTS, max_size=30))
def test_the_same_events_make_the_same_bytes(events: list[Event]) -> None:
    first, second = (Columns.of(iter(events)).to_message().SerializeToString() for _ in range(2))
    assert first == second


def test_a_string_is_sent_once_and_what_no_event_has_is_left_out() -> None:
    message = Columns.of([Event("a"), Event("b"), Event("a", "like")]).to_message()
    assert message == EventColumns(
        video_ids=["a", "b"],
        event_types=["view", "like"],
        video_index=b"\0\0\1\0\0\0",
        event_type_index=b"\0\0\0\0\1\0",
    )


@pytest.mark.parametrize("code", ["H", "q", "d"])
def test_a_big_endian_machine_sends_the_same_bytes(code: str) -> None:
    numbers = [1, 258, 65_000]
    swapped = array(code, numbers)
    swapped.byteswap()  # as a big-endian machine keeps them, if this one is little-endian
    before = swapped.tobytes()
    assert to_little_endian(swapped, "big") == struct.pack(f"<3{code}", *numbers)
    assert swapped.tobytes() == before


def test_an_endless_source_is_read_one_event_past_the_limit() -> None:
    assert len(Columns.of(repeat(Event("a")))) == MAX_EVENTS + 1


def test_the_widest_dictionaries_of_a_full_request_fit() -> None:
    events = [Event(f"v{n}", actor_id=f"a{n}") for n in range(MAX_EVENTS)]
    assert decode(Columns.of(events).to_message()) == events


def test_a_value_that_is_not_a_number_is_not_taken_for_no_value() -> None:
    with pytest.raises(InvalidRequest, match=r"^events\[1\].value: is not a number"):
        Columns.of([Event("a"), Event("a", value=math.nan)])


def test_a_naive_time_says_which_event_has_it() -> None:
    naive = datetime(2026, 1, 2)  # noqa: DTZ001 - a naive time is the point
    with pytest.raises(ValueError, match=r"^events\[1\].event_time: .* has no time zone"):
        Columns.of([Event("a"), Event("a", event_time=naive)])


NEED_VALUE = [f for f in Function if f not in (Function.COUNT, Function.DISTINCT)]


@pytest.mark.parametrize("function", NEED_VALUE)
def test_a_function_over_values_needs_a_value(function: Function) -> None:
    with pytest.raises(InvalidRequest, match=rf"^events\[0\].value: the function {function} needs a value"):
        Columns.of([Event("a", function=function, actor_id="someone")])
    assert len(Columns.of([Event("a", function=function, value=0.0)])) == 1


def test_distinct_needs_an_actor_and_count_needs_nothing() -> None:
    with pytest.raises(InvalidRequest, match=r"^events\[0\].actor_id"):
        Columns.of([Event("a", function=Function.DISTINCT, value=1.0)])
    assert len(Columns.of([Event("a", function=Function.COUNT)])) == 1


def test_a_function_may_be_named_and_a_wrong_name_lists_the_right_ones() -> None:
    assert Function.of("sum") is Function.SUM
    with pytest.raises(InvalidRequest, match=r"'median' is none of count, sum, average"):
        Function.of("median")
