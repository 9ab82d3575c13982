"""What a look at the bytes of a request refuses, and that it is cheap and cannot be deceived."""

import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.rpc import look
from libs.rpc.look import Part, look_at_append, look_at_batch, look_at_events, look_at_request, look_for
from tally.contract.errors import InvalidRequest
from tally.counting.v1.counting_pb2 import AppendRequest, Entry
from tally.ingest.v1.ingest_pb2 import Event, EventColumns, ProcessEventsRequest, StreamEventsRequest
from tests.support.wire import field

MIB = 1024 * 1024
MANY = 1_000_000


BOMBS: dict[str, tuple[Callable[[bytes], None], bytes]] = {
    "events": (look_at_events, b"\x12\x00" * MANY),
    "events whose tag takes two bytes": (look_at_events, b"\x92\x00\x00" * MANY),
    "events whose length takes three": (look_at_events, b"\x12\x80\x80\x00" * MANY),
    "events behind other fields": (look_at_events, field(1, b"x" * 300) + b"\x78\x05" + b"\x12\x00" * MANY),
    "video ids": (look_at_events, field(3, b"\x0a\x00" * MANY)),
    "event types": (look_at_events, field(3, b"\x12\x00" * MANY)),
    "actor ids": (look_at_events, field(3, b"\x1a\x00" * MANY)),
    "video ids in many columns, which a parser joins": (
        look_at_events,
        field(3, b"\x0a\x00" * 10) * (MANY // 10),
    ),
    "events of a stream": (look_at_batch, field(1, b"\x12\x00" * MANY)),
    "events of a stream in many batches, which a parser joins": (
        look_at_batch,
        field(1, b"\x12\x00" * 10) * (MANY // 10),
    ),
    "entries": (look_at_append, b"\x12\x00" * MANY),
    "names in an entry": (look_at_append, field(2, field(5, b"\x0a\x00" * MANY))),
    "names in many entries": (look_at_append, field(2, field(5, b"\x0a\x00" * 10_000)) * (MANY // 10_000)),
    "events after a group": (look_at_events, b"\x7b\x7c" + b"\x12\x00" * MANY),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_small_message_that_would_become_large_is_refused_before_it_is_parsed(bomb: str) -> None:
    refuse, data = BOMBS[bomb]
    with pytest.raises(InvalidRequest):
        refuse(data)


def test_what_the_rules_allow_passes_however_large_it_is() -> None:
    names = [f"{number:0>120}" for number in range(50_000)]
    columns = EventColumns(
        video_ids=names,
        event_types=["view"],
        video_index=bytes(range(250)) * 400,
        event_type_index=bytes(100_000),
    )
    rows = [Event(video_id=name, event_type="view", value=1.5, actor_id="\x12\x0a") for name in names]
    for request in (ProcessEventsRequest(columns=columns), ProcessEventsRequest(events=rows)):
        look_at_events(request.SerializeToString())
        look_at_batch(StreamEventsRequest(batch=request).SerializeToString())
    payload = columns.SerializeToString()
    look_at_append(AppendRequest(entries=[Entry(payload=payload)]).SerializeToString())
    look_at_append(AppendRequest(entries=[Entry(payload=b"")] * 20_000).SerializeToString())


def test_requests_above_8_mib_are_refused_with_what_they_have() -> None:
    for refuse in (look_at_events, look_at_request):
        refuse(bytes(8 * MIB))
        with pytest.raises(InvalidRequest, match="at most 8,388,608 bytes, and has 8,388,609"):
            refuse(bytes(8 * MIB + 1))
    look_at_batch(bytes(9 * MIB))  # refused after parsing, so that the stream goes on
    look_at_append(bytes(9 * MIB))  # one entry of a request may be larger than that


@given(st.binary(max_size=300))
def test_bytes_of_any_kind_are_passed_or_refused_and_raise_nothing_else(data: bytes) -> None:
    for parts in (look._EVENTS, look._ENTRIES, {1: Part("batch", inner=look._EVENTS)}):
        with suppress(InvalidRequest):
            look._walk(data, 0, len(data), parts, Counter())


@given(st.lists(st.integers(0, 3), max_size=30), st.lists(st.text(max_size=5), max_size=30))
def test_the_walk_counts_what_the_parser_makes(rows: list[int], names: list[str]) -> None:
    request = ProcessEventsRequest(
        request_id="\x12\x0a\x1a",
        events=[Event(video_id="v" * each, value=each) for each in rows],
        columns=EventColumns(video_ids=names, video_index=b"\x0a\x00\x12\x00"),
    )
    data, counts = request.SerializeToString(), Counter[str]()
    look._walk(data, 0, len(data), look._EVENTS, counts)
    assert counts["events"] == len(rows)
    assert counts["columns.video_ids"] == len(names)
    assert look._most(data, *look._common_bits(look._tags(look._EVENTS))) >= len(rows) + len(names)


def test_columns_of_an_ordinary_size_are_passed_without_being_read() -> None:
    columns = EventColumns(
        video_ids=[f"video {number}" for number in range(5_000)],
        event_types=["view"],
        video_index=bytes(10_000),
        event_type_index=bytes(10_000),
    )
    data, bytecodes = ProcessEventsRequest(columns=columns).SerializeToString(), 0

    def count(frame: object, event: str, argument: object) -> object:  # noqa: ARG001 - the interpreter's
        nonlocal bytecodes
        bytecodes += 1
        return count

    sys.settrace(count)  # type: ignore[arg-type]  # its own type is recursive
    try:
        look_at_events(data)
    finally:
        sys.settrace(None)
    assert bytecodes < 20  # lines of Python: a walk would take ten for each name


def test_each_method_has_the_look_of_its_message() -> None:
    assert look_for("/tally.ingest.v1.IngestService/ProcessEvents") is look_at_events
    assert look_for("/tally.ingest.v1.IngestService/StreamEvents") is look_at_batch
    assert look_for("/tally.counting.v1.CountingService/Append") is look_at_append
    assert look_for("/tally.query.v1.QueryService/GetCount") is look_at_request
