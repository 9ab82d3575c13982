"""Columns on the wire: what is written is read again, and what does not fit is named."""

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.domain.events import Events
from libs.rpc.columns import decode, encode, parse, parse_all
from tally.contract.errors import InvalidRequest
from tally.contract.rules import NO_TIME
from tally.ingest.v1.ingest_pb2 import EventColumns
from tests.unit.libs.domain.batches import MODEST, ROWS, Row, batch_of, rows_of

# Three events: (a, view, nobody, no time, 1.5), (b, like, x, 2 µs, no value), (a, like, nobody, -1 µs, -0.0)
GOOD: dict[str, Any] = {
    "video_ids": ["a", "b"],
    "event_types": ["view", "like"],
    "actor_ids": ["x"],
    "video_index": b"\0\0\1\0\0\0",
    "event_type_index": b"\0\0\1\0\1\0",
    "actor_index": b"\xff\xff\0\0\xff\xff",
    "event_time_us": b"\0\0\0\0\0\0\0\x80" + b"\2\0\0\0\0\0\0\0" + b"\xff" * 8,
    "value": struct.pack("<3d", 1.5, float("nan"), -0.0),
}
ROWS_OF_GOOD = [
    Row("a", "view", value=1.5),
    Row("b", "like", actor_id="x", time_us=2),
    Row("a", "like", time_us=-1, value=-0.0),
]


def refusal(changed: dict[str, Any], path: str = "columns") -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        decode(EventColumns(**{**GOOD, **changed}), path)
    return caught.value


@MODEST
@given(st.lists(ROWS, min_size=1, max_size=30))
def test_what_was_encoded_is_decoded(rows: list[Row]) -> None:
    wire = encode(batch_of(rows)).SerializeToString()
    assert rows_of(decode(EventColumns.FromString(wire))) == rows


@MODEST
@given(st.lists(st.lists(ROWS, min_size=1, max_size=8), max_size=5))
def test_payloads_that_are_read_together_are_read_as_each_by_itself(batches: list[list[Row]]) -> None:
    payloads = [encode(batch_of(rows)).SerializeToString() for rows in batches]
    assert [rows_of(events) for events in parse_all(payloads, str)] == batches


@pytest.mark.parametrize(
    "changed",
    [
        {"video_index": b"\0\0\2\0\0\0"},
        {"event_type_index": b"\0\0\1\0\2\0"},
        {"video_index": b"\0\0\2\0\0\0", "event_type_index": b"\2\0\1\0\2\0"},
        {"video_index": b"\0\0\1\0\0"},
        {"event_type_index": b"\0\0\1\0"},
        {"video_index": b"\0\0\1\0", "event_type_index": b"\0\0\1\0\1\0\0\0"},
        {"actor_index": b"\1\0\0\0\0\0"},
        {"event_time_us": b"\0" * 23},
        {"value": b"\0" * 25},
    ],
)
def test_of_payloads_that_are_read_together_the_bad_one_is_named(changed: dict[str, Any]) -> None:
    good, bad = EventColumns(**GOOD), EventColumns(**{**GOOD, **changed})
    with pytest.raises(InvalidRequest) as alone:
        decode(bad, "1")
    with pytest.raises(InvalidRequest) as caught:
        parse_all([each.SerializeToString() for each in (good, bad, good)], str)
    assert caught.value.violations == alone.value.violations


@MODEST
@given(st.lists(ROWS, min_size=1, max_size=30))
def test_the_same_events_are_the_same_bytes(rows: list[Row]) -> None:
    first, second = (encode(batch_of(rows)).SerializeToString() for _ in range(2))
    assert first == second == encode(decode(EventColumns.FromString(first))).SerializeToString()


def test_numbers_are_little_endian_whatever_the_machine_has() -> None:
    assert rows_of(decode(EventColumns(**GOOD))) == ROWS_OF_GOOD
    assert encode(batch_of(ROWS_OF_GOOD)) == EventColumns(**GOOD)


@pytest.mark.parametrize("order", ["<", ">"])
def test_arrays_of_either_byte_order_are_written_the_same_way(order: str) -> None:
    events = Events(
        video_ids=["a", "b"],
        event_types=["view", "like"],
        actor_ids=["x"],
        video_index=np.array([0, 1, 0], f"{order}u2"),
        event_type_index=np.array([0, 1, 1], f"{order}u2"),
        actor_index=np.array([65535, 0, 65535], f"{order}u2"),
        time_us=np.array([NO_TIME, 2, -1], f"{order}i8"),
        value=np.array([1.5, np.nan, -0.0], f"{order}f8"),
    )
    assert encode(events) == EventColumns(**GOOD)


def test_columns_that_no_event_uses_are_left_out() -> None:
    bare = {key: value for key, value in GOOD.items() if key in ("video_ids", "event_types")}
    events = decode(EventColumns(**bare, video_index=b"\0\0", event_type_index=b"\1\0"))
    assert (events.actor_index, events.time_us, events.value) == (None, None, None)
    assert rows_of(events) == [Row("a", "like")]
    assert encode(events) == EventColumns(**bare, video_index=b"\0\0", event_type_index=b"\1\0")


def test_of_no_columns_there_are_no_events() -> None:
    assert len(decode(EventColumns())) == 0


@pytest.mark.parametrize(
    ("field", "data", "width"),
    [
        ("event_type_index", b"", 2),
        ("event_type_index", b"\0\0" * 2, 2),
        ("event_type_index", b"\0" * 5, 2),
        ("event_type_index", b"\0\0" * 4, 2),
        ("actor_index", b"\0\0" * 2, 2),
        ("actor_index", b"\0", 2),
        ("event_time_us", b"\0" * 23, 8),
        ("event_time_us", b"\0" * 32, 8),
        ("value", b"\0" * 16, 8),
        ("value", b"\0", 8),
    ],
)
def test_a_column_of_another_length_is_named(field: str, data: bytes, width: int) -> None:
    error = refusal({field: data})
    assert [(found.field, found.description) for found in error.violations] == [
        (f"columns.{field}", f"must have {width} bytes for each of the 3 events, and has {len(data)}")
    ]
    assert error.total == 1


def test_half_an_index_is_no_event() -> None:
    (found,) = refusal({"video_index": b"\0\0\1\0\0"}).violations
    assert found.field == "columns.video_index"
    assert found.description == "must have 2 bytes for each event, and has 5"


@pytest.mark.parametrize(
    ("field", "indexes", "place", "description"),
    [
        ("video_index", [0, 2, 1], 1, "is 2, and its dictionary has 2 entries"),
        ("video_index", [0, 1, 65535], 2, "is 65535, and its dictionary has 2 entries"),
        ("event_type_index", [65535, 1, 0], 0, "is 65535, and its dictionary has 2 entries"),
        ("actor_index", [65535, 0, 1], 2, "is 1, and its dictionary has 1 entries"),
        ("actor_index", [65534, 0, 0], 0, "is 65534, and its dictionary has 1 entries"),
    ],
)
def test_an_index_outside_its_dictionary_is_named_with_its_place(
    field: str, indexes: list[int], place: int, description: str
) -> None:
    (found,) = refusal({field: struct.pack("<3H", *indexes)}).violations
    assert (found.field, found.description) == (f"columns.{field}[{place}]", description)


@pytest.mark.parametrize("dictionary", ["video_ids", "event_types", "actor_ids"])
def test_an_index_needs_its_dictionary(dictionary: str) -> None:
    assert refusal({dictionary: []}).violations[0].description.endswith("its dictionary has 0 entries")


def test_of_many_indexes_outside_the_first_20_are_told_and_all_are_counted() -> None:
    error = refusal({"video_index": b"\x09\0" * 300})
    assert error.total == 300
    assert [found.field for found in error.violations] == [f"columns.video_index[{n}]" for n in range(20)]


def test_the_path_is_that_of_the_message() -> None:
    (found,) = refusal({"value": b"\0"}, "entries[7].payload").violations
    assert found.field == "entries[7].payload.value"


def test_a_payload_that_is_no_message_is_invalid_under_its_path() -> None:
    with pytest.raises(InvalidRequest) as raised:
        parse(b"\xff", "entries[7].payload")
    (found,) = raised.value.violations
    assert found.field == "entries[7].payload"
    assert found.description.startswith("is not a well-formed EventColumns")


def test_in_the_largest_dictionary_the_number_for_nobody_stays_nobody() -> None:
    actors = [f"actor {n}" for n in range(65_536)]
    index = struct.pack("<3H", 65_534, 65_535, 0)
    events = decode(EventColumns(**{**GOOD, "actor_ids": actors, "actor_index": index}))
    assert [row.actor_id for row in rows_of(events)] == ["actor 65534", None, "actor 0"]
