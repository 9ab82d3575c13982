"""What the door lets in, what it refuses, and how it says where the fault is."""

import math
import struct
import uuid
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from services.partitioner.intake.door import Door
from tally.contract.errors import InvalidRequest, OutOfRange, Rejected
from tally.contract.request_id import make_request_id, time_ms_of
from tally.ingest.v1.ingest_pb2 import Event, EventColumns, ProcessEventsRequest
from tests.unit.libs.domain.batches import Row, rows_of

NOW_US = 1_800_000_000_000_000
NOW_S = NOW_US // 1_000_000
Y2000_S = 946_684_800
DAY_MS = 86_400_000
ID = str(make_request_id(NOW_US // 1000))
OLD_ID = str(make_request_id(NOW_US // 1000 - DAY_MS - 1))
VERSION_4 = "1ec9414c-232a-4b00-b3c8-9f6bdeced846"


class Clock:
    """It is always the same time."""

    def monotonic(self) -> float:
        return 0.0

    def now_us(self) -> int:
        return NOW_US


DOOR = Door(Clock())


def read(request_id: str = ID, **event: Any) -> list[Row]:
    """The rows of a request for one event, a view of `a` unless it says otherwise."""
    message = Event(**{"video_id": "a", "event_type": "view", **event})
    return rows_of(DOOR.read_event(request_id, message, "event.")[1])


def read_columns(request_id: str = ID, **columns: Any) -> list[Row]:
    """The rows of a request with columns, two views of `a` unless it says otherwise."""
    good = {
        "video_ids": ["a"],
        "event_types": ["view"],
        "video_index": bytes(4),
        "event_type_index": bytes(4),
    }
    message = ProcessEventsRequest(request_id=request_id, columns=EventColumns(**{**good, **columns}))
    return rows_of(DOOR.read_batch(message)[1])


def fields(error: Rejected) -> list[str]:
    return [found.field for found in error.violations]


def test_an_event_comes_through_as_it_is() -> None:
    assert read() == [Row("a", "view")]
    row = Row("日本", "seconds_watched", actor_id="x\ty", time_us=NOW_US - 1, value=-0.5)
    time = Timestamp(seconds=NOW_S - 1, nanos=999_999_999)  # what is finer than a microsecond is cut off
    assert (
        row
        == read(video_id="日本", event_type="seconds_watched", actor_id="x\ty", event_time=time, value=-0.5)[
            0
        ]
    )


def test_rows_and_columns_of_the_same_events_are_the_same_to_it() -> None:
    rows = [
        Event(video_id="a", event_type="view", value=0.0),
        Event(video_id="b", event_type="like", event_time=Timestamp(seconds=Y2000_S), actor_id="x"),
        Event(video_id="a", event_type="view"),
    ]
    columns = EventColumns(
        video_ids=["a", "b"],
        event_types=["view", "like"],
        actor_ids=["x"],
        video_index=struct.pack("<3H", 0, 1, 0),
        event_type_index=struct.pack("<3H", 0, 1, 0),
        actor_index=struct.pack("<3H", 65535, 0, 65535),
        event_time_us=struct.pack("<3q", -(2**63), Y2000_S * 1_000_000, -(2**63)),
        value=struct.pack("<3d", 0.0, math.nan, math.nan),
    )
    by_rows = DOOR.read_batch(ProcessEventsRequest(request_id=ID, events=rows))
    by_columns = DOOR.read_batch(ProcessEventsRequest(request_id=ID, columns=columns))
    assert by_rows[0] == by_columns[0] == uuid.UUID(ID)
    assert rows_of(by_rows[1]) == rows_of(by_columns[1])
    assert rows_of(by_rows[1]) == [
        Row("a", "view", value=0.0),
        Row("b", "like", actor_id="x", time_us=Y2000_S * 1_000_000),
        Row("a", "view"),
    ]


def test_a_request_without_an_id_gets_one_of_now() -> None:
    made, _ = DOOR.read_event("", Event(video_id="a", event_type="view"), "")
    again, _ = DOOR.read_event("", Event(video_id="a", event_type="view"), "")
    assert made != again
    assert (made.version, time_ms_of(made)) == (7, NOW_US // 1000)


@pytest.mark.parametrize(
    ("event", "field"),
    [
        ({"video_id": ""}, "video_id"),
        ({"video_id": "a\n"}, "video_id"),
        ({"event_type": "View"}, "event_type"),
        ({"actor_id": "é" * 65}, "actor_id"),
        ({"value": math.nan}, "value"),
        ({"value": -math.inf}, "value"),
        ({"value": 2.0**53 + 2}, "value"),
        ({"function": "FUNCTION_SUM"}, "value"),
        ({"function": "FUNCTION_AVERAGE"}, "value"),
        ({"function": "FUNCTION_MIN"}, "value"),
        ({"function": "FUNCTION_MAX"}, "value"),
        ({"function": "FUNCTION_STDDEV"}, "value"),
        ({"function": "FUNCTION_QUANTILE", "actor_id": "x"}, "value"),
        ({"function": "FUNCTION_DISTINCT", "value": 1.0}, "actor_id"),
        ({"function": 9}, "function"),
        ({"function": -1}, "function"),
        ({"event_time": Timestamp(seconds=NOW_S, nanos=-1)}, "event_time.nanos"),
        ({"event_time": Timestamp(seconds=NOW_S, nanos=10**9)}, "event_time.nanos"),
    ],
    ids=str,
)
def test_a_bad_field_is_named_by_its_path(event: dict[str, Any], field: str) -> None:
    message = Event(**{"video_id": "a", "event_type": "view", **event})
    good = Event(video_id="a", event_type="view")
    with pytest.raises(InvalidRequest) as alone:
        DOOR.read_event(ID, message, "event.")
    with pytest.raises(InvalidRequest) as bare:
        DOOR.read_event(ID, message, "")
    with pytest.raises(InvalidRequest) as among_others:
        DOOR.read_batch(ProcessEventsRequest(events=[good, good, good, message]))
    assert fields(alone.value) == [f"event.{field}"]
    assert fields(bare.value) == [field]
    assert fields(among_others.value) == [f"events[3].{field}"]


@pytest.mark.parametrize(
    "event",
    [
        {"function": "FUNCTION_COUNT"},
        {"function": "FUNCTION_SUM", "value": 0.0},
        {"function": "FUNCTION_QUANTILE", "value": 1.0},
        {"function": "FUNCTION_DISTINCT", "actor_id": "x"},
    ],
    ids=str,
)
def test_a_function_with_what_it_needs_is_let_in(event: dict[str, Any]) -> None:
    assert len(read(**event)) == 1


@pytest.mark.parametrize("seconds", [Y2000_S - 1, 0, -1, -(2**63), NOW_S + 301, 2**63 - 1])
def test_a_time_out_of_range_is_not_for_now_and_tells_the_servers_time(seconds: int) -> None:
    with pytest.raises(OutOfRange) as caught:
        read(event_time=Timestamp(seconds=seconds))
    assert fields(caught.value) == ["event.event_time"]
    assert caught.value.metadata == {"violations": "1", "server_time_us": str(NOW_US)}


@pytest.mark.parametrize("seconds", [Y2000_S, NOW_S, NOW_S + 300])
def test_a_time_in_range_is_let_in(seconds: int) -> None:
    assert read(event_time=Timestamp(seconds=seconds))[0].time_us == seconds * 1_000_000


@pytest.mark.parametrize("ahead_ms", [-DAY_MS - 1, 300_001])
def test_an_id_outside_the_horizon_is_not_for_now(ahead_ms: int) -> None:
    with pytest.raises(OutOfRange, match="not counted by this attempt") as caught:
        read(str(make_request_id(NOW_US // 1000 + ahead_ms)))
    assert fields(caught.value) == ["request_id"]
    assert caught.value.metadata["server_time_us"] == str(NOW_US)


@pytest.mark.parametrize("ahead_ms", [-DAY_MS, 300_000])
def test_an_id_inside_the_horizon_is_let_in(ahead_ms: int) -> None:
    assert len(read(str(make_request_id(NOW_US // 1000 + ahead_ms)))) == 1


def test_what_is_wrong_for_ever_comes_before_what_is_wrong_now() -> None:
    late = Timestamp(seconds=NOW_S + 3600)
    with pytest.raises(InvalidRequest) as caught:
        read(OLD_ID, event_time=late, event_type="")
    assert (fields(caught.value), caught.value.total) == (["event.event_type"], 1)
    with pytest.raises(OutOfRange) as now:
        read(OLD_ID, event_time=late)
    assert fields(now.value) == ["request_id", "event.event_time"]
    with pytest.raises(InvalidRequest):
        read(VERSION_4, event_time=late)


def test_everything_wrong_is_counted_and_the_first_20_are_told() -> None:
    bad = Event(video_id="", event_type="", actor_id="x" * 129, value=math.nan)
    with pytest.raises(InvalidRequest) as caught:
        DOOR.read_batch(ProcessEventsRequest(request_id=VERSION_4, events=[bad] * 50))
    assert caught.value.total == 1 + 4 * 50
    assert caught.value.metadata == {"violations": "201"}
    first = fields(caught.value)
    assert len(first) == 20
    assert first[:6] == [
        "request_id",
        "events[0].video_id",
        "events[0].event_type",
        "events[0].actor_id",
        "events[0].value",
        "events[1].video_id",
    ]


def test_times_out_of_range_are_counted_and_told_in_the_same_way() -> None:
    early = Event(video_id="a", event_type="view", event_time=Timestamp(seconds=0))
    with pytest.raises(OutOfRange) as caught:
        DOOR.read_batch(ProcessEventsRequest(request_id=OLD_ID, events=[early] * 50))
    assert (caught.value.total, len(caught.value.violations)) == (51, 20)
    with pytest.raises(OutOfRange) as in_columns:
        read_columns(OLD_ID, event_time_us=bytes(16))
    assert fields(in_columns.value) == [
        "request_id",
        "columns.event_time_us[0]",
        "columns.event_time_us[1]",
    ]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"video_ids": ["a", ""]}, ["columns.video_ids[1]"]),
        ({"event_types": ["view", "A", "B"]}, ["columns.event_types[1]", "columns.event_types[2]"]),
        ({"actor_ids": ["x" * 129]}, ["columns.actor_ids[0]"]),
        ({"video_index": b"\0\0\1\0"}, ["columns.video_index[1]"]),
        ({"event_type_index": b"\0\0"}, ["columns.event_type_index"]),
        ({"value": struct.pack("<2d", math.inf, -math.inf)}, ["columns.value[0]", "columns.value[1]"]),
        ({"value": struct.pack("<2d", math.nan, 2.0**53 + 2)}, ["columns.value[1]"]),
        # A column that does not fit hides nothing that is wrong with the dictionaries.
        ({"video_ids": ["\0"], "value": b"\0"}, ["columns.video_ids[0]", "columns.value"]),
        ({"video_index": b""}, ["columns"]),
        # So many names, and nothing of them is looked at.
        (
            {"event_types": ["A"] * 257, "actor_ids": ["x"] * 257},
            ["columns.event_types", "columns.actor_ids"],
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_columns_are_named_by_their_path(columns: dict[str, Any], expected: list[str]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_columns(**columns)
    assert (fields(caught.value), caught.value.total) == (expected, len(expected))


def test_every_index_outside_its_dictionary_is_counted_with_the_rest() -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_columns(VERSION_4, video_index=b"\1\0" * 300, event_type_index=bytes(600))
    assert (caught.value.total, len(caught.value.violations)) == (301, 20)
    assert fields(caught.value)[:2] == ["request_id", "columns.video_index[0]"]


def test_in_columns_a_nan_is_no_value_and_a_time_may_be_missing() -> None:
    times = struct.pack("<2q", -(2**63), NOW_US + 300_000_000)
    assert read_columns(value=struct.pack("<2d", math.nan, 2.0**53), event_time_us=times) == [
        Row("a", "view"),
        Row("a", "view", time_us=NOW_US + 300_000_000, value=2.0**53),
    ]


EVENT = Event(video_id="a", event_type="view")
COLUMNS = EventColumns(video_ids=["a"], event_types=["view"], video_index=bytes(2), event_type_index=bytes(2))


@pytest.mark.parametrize(
    "request_", [ProcessEventsRequest(), ProcessEventsRequest(events=[EVENT], columns=COLUMNS)]
)
def test_a_request_has_events_or_columns(request_: ProcessEventsRequest) -> None:
    request_.request_id = VERSION_4
    with pytest.raises(InvalidRequest) as caught:
        DOOR.read_batch(request_)
    assert (fields(caught.value), caught.value.total) == (["request_id", "events"], 2)
    assert "either events or columns" in caught.value.violations[1].description


def test_a_request_has_at_most_50000_events() -> None:
    full = ProcessEventsRequest(events=[EVENT] * 50_000)
    assert len(DOOR.read_batch(full)[1]) == 50_000
    full.events.append(EVENT)
    with pytest.raises(InvalidRequest, match="must be at most 50,000 events, and are 50,001") as caught:
        DOOR.read_batch(full)
    assert fields(caught.value) == ["events"]
    assert len(read_columns(video_index=bytes(100_000), event_type_index=bytes(100_000))) == 50_000
    with pytest.raises(InvalidRequest, match="must be at most 50,000 events, and are 50,001") as in_columns:
        read_columns(video_index=bytes(100_002), event_type_index=bytes(100_002))
    assert fields(in_columns.value) == ["columns"]


def test_an_empty_event_is_wrong_in_two_places() -> None:
    with pytest.raises(InvalidRequest) as caught:
        DOOR.read_event("", Event(), "event.")
    assert fields(caught.value) == ["event.video_id", "event.event_type"]
