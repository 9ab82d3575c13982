"""What a shard refuses of a call, whoever sends it."""

from typing import Any

import pytest

from services.counting.journal.wire import Wire
from tally.contract.errors import InvalidRequest
from tally.contract.request_id import first_id_of, make_request_id
from tally.contract.rules import MAX_EVENTS
from tally.counting.v1 import counting_pb2 as pb
from tally.ingest.v1.ingest_pb2 import EventColumns
from tests.support.clock import Clock
from tests.support.database import PARTITION_COUNT
from tests.support.entries import as_entry, cut_request, spread_on_the_wire

NOW_S = 1_700_000_000
ID = make_request_id(NOW_S * 1000)
COUNTS = {(f"video {n}", "view"): n + 1 for n in range(20)}


def read(*entries: pb.Entry) -> list[Any]:
    return Wire(PARTITION_COUNT, Clock(NOW_S)).read_entries(pb.AppendRequest(entries=entries))


def changed(entry: pb.Entry, **fields: Any) -> pb.Entry:
    other = pb.Entry()
    other.CopyFrom(entry)
    for name, value in fields.items():
        setattr(other, name, value)
    return other


def payload(video: str = "video", event_type: str = "view", **columns: Any) -> bytes:
    good = {"video_ids": [video], "event_types": [event_type], "video_index": b"\0\0"}
    return EventColumns(**{**good, "event_type_index": b"\0\0", **columns}).SerializeToString()


(ONE,) = cut_request({("video", "view"): 1}, ID)


def test_the_entries_of_a_request_are_read_as_they_were_cut() -> None:
    sent = cut_request(COUNTS, ID)
    for entry, expected in zip(read(*sent), map(as_entry, sent), strict=True):
        assert (entry.request_id, entry.partition, entry.request_hash, entry.payload) == (
            ID,
            expected.partition,
            expected.request_hash,
            expected.payload,
        )
        assert entry.events.video_ids == expected.events.video_ids
        assert entry.events.video_index.tolist() == expected.events.video_index.tolist()


def test_a_trace_context_has_its_length_and_counts_as_bytes_of_the_entry() -> None:
    context = f"00-{'a' * 32}-{'b' * 16}-01"
    good, long = read(changed(ONE, traceparent=context)) + read(changed(ONE, traceparent=context + "-more"))
    assert good.traceparent == context
    assert good.size_bytes == len(good.payload) + len(context)
    assert long.traceparent == ""
    assert long.size_bytes == len(long.payload)


def test_an_entry_has_no_more_events_than_a_request_may_and_a_larger_one_is_not_even_parsed() -> None:
    read(changed(spread_on_the_wire("video", MAX_EVENTS), request_id=ID.bytes))
    for too_many in (
        spread_on_the_wire("video", MAX_EVENTS + 1),
        changed(ONE, event_count=MAX_EVENTS + 1, payload=b"\xff"),
    ):
        with pytest.raises(InvalidRequest, match="at most 50,000") as caught:
            read(ONE, too_many)
        assert caught.value.violations[0].field == "entries[1].event_count"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"request_id": b"short"}, "request_id"),
        ({"request_id": first_id_of(NOW_S * 1000 + 303_000).bytes}, "request_id"),
        ({"event_count": 2}, "event_count"),
        ({"event_count": 0, "payload": payload(video_index=b"", event_type_index=b"")}, "event_count"),
        ({"partition": (ONE.partition + 1) % PARTITION_COUNT}, "partition"),
        ({"partition": PARTITION_COUNT}, "partition"),
        ({"payload": b"\xff"}, "payload"),
        ({"payload": payload(video="")}, "payload"),
        ({"payload": payload(event_type="VIEW")}, "payload"),
        ({"payload": payload(event_types=["view"] * 257)}, "payload"),
        ({"payload": payload(actor_ids=["x" * 129], actor_index=b"\0\0")}, "payload"),
        ({"payload": payload(event_time_us=bytes(8))}, "payload"),
        ({"payload": payload(value=b"\xff" * 6 + b"\xef\x7f")}, "payload"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_entry_that_could_not_be_applied_is_refused_by_name(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(ONE, changed(ONE, **fields))
    assert caught.value.violations[0].field == f"entries[1].{field}"


def test_a_key_may_come_twice_but_not_with_other_events() -> None:
    assert len(read(ONE, ONE)) == 2
    other = changed(ONE, payload=payload(event_type="like"))
    with pytest.raises(InvalidRequest, match="the key of another entry"):
        read(ONE, other)
    assert len(read(ONE, changed(other, request_hash=ONE.request_hash ^ 1))) == 2
    assert len(read(ONE, changed(other, request_id=make_request_id(NOW_S * 1000).bytes))) == 2
