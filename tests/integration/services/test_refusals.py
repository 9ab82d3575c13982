"""Every bad input that the api knows, as its caller meets it; after each of them nothing is counted."""

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count, islice, product
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from libs.domain.partition import partition_of
from tally.contract.status import DETAILS_KEY
from tally.ingest.v1 import ingest_pb2 as pb
from tally.query.v1 import query_pb2
from tests.integration.services.api import TIMEOUT_S, Api, new_id, refused
from tests.support import wire
from tests.support.database import PARTITION_COUNT

pytestmark = pytest.mark.asyncio(loop_scope="module")

INVALID = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
OUT_OF_RANGE = (grpc.StatusCode.OUT_OF_RANGE, "OUT_OF_RANGE")
DAY_MS = 86_400_000
VERSION_4 = "1ec9414c-232a-4b00-b3c8-9f6bdeced846"
VERSION_7 = "01890a5d-ac96-774b-bcce-b302099a8057"
FUTURE = Timestamp(seconds=4_000_000_000)
LAST_CENTURY = Timestamp(seconds=946_684_799)
LATER, EARLIER = Timestamp(seconds=1_700_000_060), Timestamp(seconds=1_700_000_000)


def view(**changed: Any) -> pb.Event:
    return pb.Event(**{"video_id": "bad", "event_type": "view", **changed})


def one(**changed: Any) -> pb.ProcessEventRequest:
    return pb.ProcessEventRequest(event=view(**changed))


def event(**changed: Any) -> pb.CountEventRequest:
    return pb.CountEventRequest(**{"video_id": "bad", "event_type": "view", **changed})


def rows(*events: pb.Event, **changed: Any) -> pb.ProcessEventsRequest:
    return pb.ProcessEventsRequest(events=[view(), *events], **changed)


def columns(**changed: Any) -> pb.ProcessEventsRequest:
    """Two views of one video, in columns."""
    good = {
        "video_ids": ["bad"],
        "event_types": ["view"],
        "video_index": bytes(4),
        "event_type_index": bytes(4),
    }
    return pb.ProcessEventsRequest(columns=pb.EventColumns(**{**good, **changed}))


def stats(**changed: Any) -> query_pb2.GetStatsRequest:
    return query_pb2.GetStatsRequest(**{"video_id": "bad", "event_type": "view", **changed})


@dataclass(frozen=True)
class Bad:
    """A request that must be refused, and how."""

    method: str
    make: Callable[[], Message]
    fields: list[str]
    answer: tuple[grpc.StatusCode, str] = field(default=INVALID)
    says: str = ""

    def __str__(self) -> str:
        return f"{self.method} {self.fields[0]} {self.says}"


VIDEO_ID, EVENT_TYPE = "must be 1 to 128 bytes of UTF-8", "must be 1 to 64 of the characters"
VALUE, ID_FORM = "must be a finite number within ±2^53", "must be a UUID version 7 in its usual text form"
NEEDS_VALUE, NEEDS_ACTOR = "this function needs a value", "this function needs an actor_id"
EVENT_TIME, HORIZON = "must be from the year 2000", "older than 24 hours or more than 5 minutes ahead"

TABLE = [
    # a video id that is not 1 to 128 bytes of UTF-8 without control characters
    Bad("CountViewEvent", pb.CountViewEventRequest, ["video_id"], says=VIDEO_ID),
    Bad("CountViewEvent", lambda: pb.CountViewEventRequest(video_id="é" * 65), ["video_id"], says=VIDEO_ID),
    Bad("CountEvent", lambda: event(video_id="a\x7fb"), ["video_id"], says=VIDEO_ID),
    Bad("CountEvent", lambda: event(video_id="a\x85b"), ["video_id"], says=VIDEO_ID),
    Bad("ProcessEvent", lambda: one(video_id="a\0"), ["event.video_id"], says=VIDEO_ID),
    Bad("ProcessEvents", lambda: rows(view(video_id="")), ["events[1].video_id"], says=VIDEO_ID),
    Bad("ProcessEvents", lambda: columns(video_ids=["\n"]), ["columns.video_ids[0]"], says=VIDEO_ID),
    # an event type that is not 1 to 64 of [a-z0-9_.-]
    Bad("CountEvent", lambda: event(event_type=""), ["event_type"], says=EVENT_TYPE),
    Bad("CountEvent", lambda: event(event_type="x" * 65), ["event_type"], says=EVENT_TYPE),
    Bad("ProcessEvent", lambda: one(event_type="View"), ["event.event_type"], says=EVENT_TYPE),
    Bad("ProcessEvents", lambda: rows(view(event_type="a b")), ["events[1].event_type"], says=EVENT_TYPE),
    Bad("ProcessEvents", lambda: columns(event_types=["é"]), ["columns.event_types[0]"], says=EVENT_TYPE),
    # an actor over 128 bytes
    Bad("CountViewEvent", lambda: pb.CountViewEventRequest(video_id="bad", actor_id="x" * 129), ["actor_id"]),
    Bad("CountEvent", lambda: event(actor_id="é" * 65), ["actor_id"]),
    Bad("ProcessEvent", lambda: one(actor_id="x" * 129), ["event.actor_id"]),
    Bad("ProcessEvents", lambda: rows(view(actor_id="x" * 129)), ["events[1].actor_id"]),
    Bad("ProcessEvents", lambda: columns(actor_ids=["x" * 129]), ["columns.actor_ids[0]"]),
    # a value that is NaN, infinite or beyond ±2^53
    Bad("ProcessEvent", lambda: one(value=math.nan), ["event.value"], says=VALUE),
    Bad("ProcessEvent", lambda: one(value=math.inf), ["event.value"], says=VALUE),
    Bad("ProcessEvents", lambda: rows(view(value=-(2.0**53) - 2)), ["events[1].value"], says=VALUE),
    Bad(
        "ProcessEvents",
        lambda: columns(value=struct.pack("<2d", 1.0, -math.inf)),
        ["columns.value[1]"],
        says=VALUE,
    ),
    # a function without what it needs
    *(
        Bad(
            "ProcessEvent",
            partial(one, function=name, actor_id="x"),
            ["event.value"],
            says=NEEDS_VALUE,
        )
        for name in ("FUNCTION_SUM", "FUNCTION_AVERAGE", "FUNCTION_MIN", "FUNCTION_MAX", "FUNCTION_STDDEV")
    ),
    Bad("ProcessEvent", lambda: one(function="FUNCTION_QUANTILE"), ["event.value"], says=NEEDS_VALUE),
    Bad(
        "ProcessEvent",
        lambda: one(function="FUNCTION_DISTINCT", value=1),
        ["event.actor_id"],
        says=NEEDS_ACTOR,
    ),
    Bad("ProcessEvents", lambda: rows(view(function="FUNCTION_SUM")), ["events[1].value"], says=NEEDS_VALUE),
    Bad("ProcessEvent", lambda: one(function=77), ["event.function"], says="is 77"),
    # a request id that is not a UUIDv7 in its usual text form
    Bad(
        "CountEvent", lambda: event(request_id=VERSION_4), ["request_id"], says="of version 4; use version 7"
    ),
    Bad("CountEvent", lambda: event(request_id="no id"), ["request_id"], says=ID_FORM),
    Bad("CountEvent", lambda: event(request_id="{" + VERSION_7 + "}"), ["request_id"], says=ID_FORM),
    Bad("CountEvent", lambda: event(request_id=VERSION_7.upper()), ["request_id"], says=ID_FORM),
    Bad("CountEvent", lambda: event(request_id="urn:uuid:" + VERSION_7), ["request_id"], says=ID_FORM),
    Bad(
        "ProcessEvents",
        lambda: rows(request_id=VERSION_4),
        ["request_id"],
        says="of version 4; use version 7",
    ),
    # no events, or more than 50,000
    Bad("ProcessEvents", pb.ProcessEventsRequest, ["events"], says="either events or columns"),
    Bad("ProcessEvents", lambda: columns(video_index=b""), ["columns"], says="at least one event"),
    Bad("ProcessEvents", lambda: rows(*[view()] * 50_000), ["events"], says="at most 50,000 events"),
    Bad(
        "ProcessEvents",
        lambda: columns(video_index=bytes(100_002), event_type_index=bytes(100_002)),
        ["columns"],
        says="at most 50,000 events",
    ),
    # events and columns
    Bad(
        "ProcessEvents",
        lambda: pb.ProcessEventsRequest(events=[view()], columns=columns().columns),
        ["events"],
        says="either events or columns",
    ),
    # an index outside its dictionary, or a column of another length
    Bad("ProcessEvents", lambda: columns(video_index=b"\0\0\1\0"), ["columns.video_index[1]"], says="is 1"),
    Bad("ProcessEvents", lambda: columns(event_type_index=b"\1\0\0\0"), ["columns.event_type_index[0]"]),
    Bad(
        "ProcessEvents", lambda: columns(actor_index=b"\0\0\xff\xff"), ["columns.actor_index[0]"], says="is 0"
    ),
    Bad("ProcessEvents", lambda: columns(value=b"\0" * 15), ["columns.value"], says="must have 8 bytes"),
    Bad("ProcessEvents", lambda: columns(event_time_us=b"\0"), ["columns.event_time_us"]),
    # a request id older than the horizon or more than 5 minutes ahead
    Bad(
        "CountEvent", lambda: event(request_id=new_id(-DAY_MS - 5_000)), ["request_id"], OUT_OF_RANGE, HORIZON
    ),
    Bad("CountEvent", lambda: event(request_id=new_id(310_000)), ["request_id"], OUT_OF_RANGE, HORIZON),
    Bad("CountEvent", lambda: event(request_id=VERSION_7), ["request_id"], OUT_OF_RANGE, HORIZON),
    # an event time before 2000 or more than 5 minutes ahead
    Bad("CountEvent", lambda: event(event_time=LAST_CENTURY), ["event_time"], OUT_OF_RANGE, EVENT_TIME),
    Bad("CountEvent", lambda: event(event_time=FUTURE), ["event_time"], OUT_OF_RANGE, EVENT_TIME),
    Bad("ProcessEvent", lambda: one(event_time=FUTURE), ["event.event_time"], OUT_OF_RANGE, EVENT_TIME),
    Bad("ProcessEvents", lambda: rows(view(event_time=FUTURE)), ["events[1].event_time"], OUT_OF_RANGE),
    Bad(
        "ProcessEvents",
        lambda: columns(event_time_us=struct.pack("<2q", -(2**63), 1)),
        ["columns.event_time_us[1]"],
        OUT_OF_RANGE,
    ),
    # when both happen, INVALID_ARGUMENT
    Bad("CountEvent", lambda: event(event_time=FUTURE, video_id=""), ["video_id"]),
    Bad("ProcessEvent", lambda: one(event_time=LAST_CENTURY, value=math.nan), ["event.value"]),
    Bad(
        "ProcessEvents", lambda: rows(view(event_time=FUTURE), view(event_type="")), ["events[2].event_type"]
    ),
    Bad("ProcessEvents", lambda: rows(view(event_type=""), request_id=VERSION_7), ["events[1].event_type"]),
    # several at once
    Bad("ProcessEvent", lambda: one(video_id="", event_type=""), ["event.video_id", "event.event_type"]),
    # reads
    Bad("GetViewsCount", query_pb2.GetViewsCountRequest, ["video_id"], says=VIDEO_ID),
    Bad("GetCount", query_pb2.GetCountRequest, ["video_id", "event_type"]),
    Bad(
        "GetCount",
        lambda: query_pb2.GetCountRequest(
            video_id="bad", event_type="view", start_time=LATER, end_time=EARLIER
        ),
        ["start_time"],
        says="must not be after end_time",
    ),
    Bad(
        "GetViewsCount",
        lambda: query_pb2.GetViewsCountRequest(video_id="bad", start_time=LATER, end_time=EARLIER),
        ["start_time"],
    ),
    Bad("GetStats", lambda: stats(event_type="A"), ["event_type"], says=EVENT_TYPE),
    Bad("GetStats", lambda: stats(function=42), ["function"], says="is 42"),
    Bad("GetStats", lambda: stats(function=42, video_id=""), ["video_id", "function"]),
    Bad("GetStats", lambda: stats(consistency=7), ["consistency"], says="is 7"),
    Bad("GetStats", lambda: stats(start_time=Timestamp(nanos=-1)), ["start_time.nanos"]),
    Bad("GetStats", lambda: stats(end_time=Timestamp(nanos=1_000_000_000)), ["end_time.nanos"]),
    # bad input comes before what is not served yet
    Bad("GetStats", lambda: stats(function="FUNCTION_DISTINCT", video_id=""), ["video_id"]),
    Bad(
        "GetStats",
        lambda: stats(function="FUNCTION_QUANTILE", start_time=LATER, end_time=EARLIER),
        ["start_time"],
    ),
]


@pytest.mark.parametrize("bad", TABLE, ids=str)
async def test_bad_input_gets_a_clear_error_and_nothing_is_counted(api: Api, bad: Bad) -> None:
    before = await api.journaled()
    stub = api.query if bad.method.startswith("Get") else api.ingest
    refusal = await refused(getattr(stub, bad.method)(bad.make(), timeout=TIMEOUT_S))
    assert (refusal.code, refusal.reason) == bad.answer
    assert refusal.fields == bad.fields
    assert refusal.metadata["violations"] == str(len(bad.fields))
    assert ("server_time_us" in refusal.metadata) is (bad.answer == OUT_OF_RANGE)
    assert bad.says in refusal.descriptions[0]
    assert refusal.message.startswith(bad.fields[0])
    assert await api.journaled() == before
    assert await api.count("bad") == 0


async def test_one_bad_event_refuses_its_whole_request(api: Api) -> None:
    before = await api.journaled()
    good = [pb.Event(video_id=f"all or nothing {n}", event_type="view") for n in range(40)]
    request = pb.ProcessEventsRequest(events=[*good, view(value=math.nan), *good])
    refusal = await refused(api.ingest.ProcessEvents(request, timeout=TIMEOUT_S))
    assert refusal.fields == ["events[40].value"]
    assert await api.journaled() == before
    assert {await api.count(f"all or nothing {n}") for n in range(40)} == {0}


async def test_200_violations_arrive_as_what_they_are_with_the_first_20(api: Api) -> None:
    long = "é" * 5_000
    request = pb.ProcessEventsRequest(events=[view(video_id=long)] * 200)
    refusal = await refused(api.ingest.ProcessEvents(request, timeout=TIMEOUT_S))
    assert (refusal.code, refusal.reason) == INVALID
    assert refusal.metadata["violations"] == "200"
    assert refusal.fields == [f"events[{n}].video_id" for n in range(20)]
    assert refusal.trailer_bytes < 6_000  # base64 makes a third more of it, and 8 KiB is the end
    assert "(and 199 more)" in refusal.message


async def test_the_servers_time_comes_with_out_of_range(api: Api) -> None:
    refusal = await refused(api.ingest.CountEvent(event(event_time=FUTURE), timeout=TIMEOUT_S))
    now_us = await api.database.fetchval("select (extract(epoch from clock_timestamp()) * 1000000)::bigint")
    assert now_us - 10_000_000 < int(refusal.metadata["server_time_us"]) <= now_us


@pytest.mark.parametrize("ahead_ms", [-DAY_MS + 5_000, 290_000])
async def test_an_id_inside_the_horizon_is_taken(api: Api, ahead_ms: int) -> None:
    answer = await api.ingest.CountEvent(
        event(video_id="inside", request_id=new_id(ahead_ms)), timeout=TIMEOUT_S
    )
    assert answer.receipt.accepted_count == 1


async def test_a_string_that_is_not_utf_8_is_an_invalid_argument(api: Api) -> None:
    before = await api.journaled()
    cases = {
        "CountEvent": b"\x0a\x02\xc3\x28",
        "ProcessEvent": b"\x0a\x04\x0a\x02\xc3\x28",
        "ProcessEvents": b"\x1a\x04\x0a\x02\xc3\x28",
        "CountViewEvent": b"\x0a\x03\xed\xa0\x80",  # half of a surrogate pair
    }
    for method, data in cases.items():
        refusal = await refused(api.raw(method, data))
        assert (refusal.code, refusal.reason, refusal.fields) == (*INVALID, ["request"]), method
    assert await api.journaled() == before


MOST_BYTES = 8 * 1024 * 1024


def largest() -> pb.ProcessEventsRequest:
    """50,000 events of one partition in rows, as large as a request may be."""
    ids = (f"{number:0>128}" for number in count())
    videos = islice((video_id for video_id in ids if not partition_of(video_id, PARTITION_COUNT)), 50_000)
    actors = ("".join(letters) for letters in product("abcdefgh", repeat=28))
    events = [
        pb.Event(video_id=video_id, event_type="v", actor_id=actor)
        for video_id, actor in zip(videos, actors, strict=False)
    ]
    # One time and one value make columns of them for all: the entry is larger than the request.
    events[0].event_time.seconds, events[0].value = 1_700_000_000, 1.0
    request = pb.ProcessEventsRequest(request_id=new_id(), events=events)
    missing = MOST_BYTES - request.ByteSize()
    for row in request.events[: missing // 50]:
        row.actor_id += "x" * 50
    request.events[-1].actor_id += "x" * (missing % 50)
    assert request.ByteSize() == MOST_BYTES
    return request


async def test_a_request_has_at_most_8_mib(api: Api) -> None:
    request = largest()
    answer = await api.ingest.ProcessEvents(request, timeout=TIMEOUT_S)
    assert answer.receipt.accepted_count == 50_000
    assert await api.database.fetchval("select max(octet_length(payload)) from counting.journal") > MOST_BYTES
    before = await api.journaled()
    request.request_id = new_id()
    request.events[-1].actor_id += "x"
    refusal = await refused(api.ingest.ProcessEvents(request, timeout=TIMEOUT_S))
    assert (refusal.code, refusal.reason, refusal.fields) == (*INVALID, ["request"])
    assert "at most 8,388,608 bytes, and has 8,388,609" in refusal.descriptions[0]
    assert await api.journaled() == before


@pytest.mark.parametrize("mib", [9.5, 15.9])
async def test_above_8_mib_the_answer_has_details_and_is_not_worth_a_retry(api: Api, mib: float) -> None:
    before = await api.journaled()
    refusal = await refused(api.raw("ProcessEvents", wire.field(1, bytes(int(mib * 1024 * 1024)))))
    assert (refusal.code, refusal.reason, refusal.fields) == (*INVALID, ["request"])
    assert "at most 8,388,608 bytes" in refusal.message
    assert await api.journaled() == before


async def test_beyond_the_transports_limit_grpc_itself_answers(api: Api) -> None:
    before = await api.journaled()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await api.raw("ProcessEvents", wire.field(1, bytes(16 * 1024 * 1024)))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in str(caught.value.details())  # as docs/operations.md has it
    assert DETAILS_KEY not in dict(caught.value.trailing_metadata() or ())
    assert await api.journaled() == before


BOMBS = {
    "events": b"\x12\x00" * 1_000_000,
    "names": wire.field(3, b"\x0a\x00" * 1_000_000),
    "events in a part that is joined": wire.field(3, b"\x0a\x01a") * 1_000_000,
}


@pytest.mark.parametrize("bomb", BOMBS)
async def test_a_request_that_would_become_a_hundred_times_its_size_is_refused(api: Api, bomb: str) -> None:
    refusal = await refused(api.raw("ProcessEvents", BOMBS[bomb]))
    assert (refusal.code, refusal.reason) == INVALID
    assert "must be at most 50,000" in refusal.message


async def test_such_a_batch_ends_its_stream_after_the_answers_to_those_before(api: Api) -> None:
    stream: Any = api.channel.stream_stream("/tally.ingest.v1.IngestService/StreamEvents")(timeout=TIMEOUT_S)
    good = rows(view(), request_id=new_id())
    await stream.write(pb.StreamEventsRequest(batch=good).SerializeToString())
    await stream.write(wire.field(1, BOMBS["events"]))
    answer = pb.StreamEventsResponse.FromString(await stream.read())
    assert answer.receipt.request_id == good.request_id
    refusal = await refused(stream.read())
    assert (refusal.code, refusal.reason, refusal.fields) == (*INVALID, ["events"])


async def test_a_batch_above_8_mib_is_refused_by_itself(api: Api) -> None:
    batch = largest()
    batch.events[-1].actor_id += "x" * 100
    stream = api.ingest.StreamEvents(timeout=TIMEOUT_S)
    await stream.write(pb.StreamEventsRequest(batch=batch))
    answer = await stream.read()
    assert (answer.refusal.request_id, answer.refusal.reason) == (batch.request_id, "INVALID_REQUEST")
    assert "at most 8,388,608 bytes" in answer.refusal.message
    stream.cancel()


async def test_what_nobody_expected_is_told_without_its_text(api: Api) -> None:
    await api.database.execute("alter table counting.rollup_row rename to hidden")
    try:
        request = query_pb2.GetCountRequest(video_id="unexpected", event_type="view")
        refusal = await refused(api.query.GetCount(request, timeout=TIMEOUT_S))
    finally:
        await api.database.execute("alter table counting.hidden rename to rollup_row")
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert "rollup_row" not in f"{refusal.message} {refusal.metadata}"
    assert refusal.metadata["error_id"] in refusal.message


async def test_what_is_not_served_yet_says_so_without_a_look_at_the_rollups(api: Api) -> None:
    for function in ("FUNCTION_DISTINCT", "FUNCTION_QUANTILE"):
        await api.database.execute("alter table counting.rollup_row rename to hidden")
        try:
            refusal = await refused(api.query.GetStats(stats(function=function), timeout=TIMEOUT_S))
        finally:
            await api.database.execute("alter table counting.hidden rename to rollup_row")
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED")
        assert refusal.message.startswith(function.removeprefix("FUNCTION_").lower())
