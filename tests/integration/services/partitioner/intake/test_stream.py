"""Batches on a stream: each is answered by itself, and what is wrong with one is nothing to the others."""

import asyncio
import struct
from typing import Any

import grpc
import pytest

from tally.common.v1.common_pb2 import DURABILITY_JOURNALED
from tally.ingest.v1 import ingest_pb2 as pb
from tests.integration.services.api import TIMEOUT_S, Api, new_id, read_refusal

pytestmark = pytest.mark.asyncio(loop_scope="module")


def batch(video_id: str, n: int = 1, request_id: str | None = None) -> pb.ProcessEventsRequest:
    """n views of a video, in columns."""
    columns = pb.EventColumns(
        video_ids=[video_id], event_types=["view"], video_index=bytes(2 * n), event_type_index=bytes(2 * n)
    )
    return pb.ProcessEventsRequest(request_id=new_id() if request_id is None else request_id, columns=columns)


async def answers_to(api: Api, batches: list[pb.ProcessEventsRequest]) -> dict[str, pb.StreamEventsResponse]:
    """What became of the batches, by their ids."""
    stream = api.ingest.StreamEvents(
        iter([pb.StreamEventsRequest(batch=each) for each in batches]), timeout=TIMEOUT_S
    )
    answers = [answer async for answer in stream]
    assert len(answers) == len(batches)
    return {
        (answer.receipt if answer.HasField("receipt") else answer.refusal).request_id: answer
        for answer in answers
    }


async def test_many_batches_under_way_are_each_answered_once(api: Api) -> None:
    batches = [batch(f"many {n % 5}", n=n % 3 + 1) for n in range(300)]
    answers = await answers_to(api, batches)
    for sent in batches:
        assert answers[sent.request_id] == pb.StreamEventsResponse(
            receipt=pb.Receipt(
                request_id=sent.request_id,
                accepted_count=len(sent.columns.video_index) // 2,
                durability=DURABILITY_JOURNALED,
            )
        )
    assert [await api.count(f"many {n}") for n in range(5)] == [
        sum(n % 3 + 1 for n in range(300) if n % 5 == video) for video in range(5)
    ]


async def test_a_refused_batch_ends_neither_the_stream_nor_the_others(api: Api) -> None:
    good, late, empty = batch("refused"), batch("refused", request_id=new_id(ahead_ms=-90_000_000)), batch("")
    outside = batch("refused")
    outside.columns.video_index = struct.pack("<H", 7)
    other = batch("refused", n=2)
    answers = await answers_to(api, [late, good, empty, outside, other])
    refusals = {sent.request_id: answers[sent.request_id].refusal for sent in (late, empty, outside)}
    assert [(refusal.code, refusal.reason) for refusal in refusals.values()] == [
        (grpc.StatusCode.OUT_OF_RANGE.value[0], "OUT_OF_RANGE"),
        (grpc.StatusCode.INVALID_ARGUMENT.value[0], "INVALID_REQUEST"),
        (grpc.StatusCode.INVALID_ARGUMENT.value[0], "INVALID_REQUEST"),
    ]
    assert refusals[empty.request_id].message.startswith("columns.video_ids[0]: must be 1 to 128 bytes")
    assert answers[good.request_id].receipt.accepted_count == 1
    assert answers[other.request_id].receipt.accepted_count == 2
    assert await api.count("refused") == 3


async def test_a_batch_needs_an_id_so_that_its_answer_can_be_told_apart(api: Api) -> None:
    good = batch("without id")
    answers = await answers_to(api, [batch("without id", request_id=""), good])
    refusal = answers[""].refusal
    assert (refusal.code, refusal.reason) == (3, "INVALID_REQUEST")
    assert refusal.message.startswith("request_id: must be given")
    assert answers[good.request_id].receipt.accepted_count == 1
    assert await api.count("without id") == 1


async def test_a_batch_sent_twice_counts_once(api: Api) -> None:
    twice = batch("twice", n=4)
    stream = api.ingest.StreamEvents(iter([pb.StreamEventsRequest(batch=twice)] * 2), timeout=TIMEOUT_S)
    receipts = [answer.receipt async for answer in stream]
    assert sorted((receipt.accepted_count, receipt.duplicate_count) for receipt in receipts) == [
        (0, 4),
        (4, 0),
    ]
    assert await api.count("twice") == 4


async def test_an_id_used_again_for_other_content_is_refused_and_the_stream_goes_on(api: Api) -> None:
    first = batch("reused")
    await answers_to(api, [first])
    last = batch("reused")
    answers = await answers_to(api, [batch("reused", n=2, request_id=first.request_id), last])
    refusal = answers[first.request_id].refusal
    assert (refusal.code, refusal.reason) == (3, "REQUEST_ID_REUSED")
    assert answers[last.request_id].receipt.accepted_count == 1
    assert await api.count("reused") == 2


async def test_bytes_that_are_no_batch_end_the_stream_after_its_answers(api: Api) -> None:
    stream: Any = api.channel.stream_stream("/tally.ingest.v1.IngestService/StreamEvents")(timeout=TIMEOUT_S)
    sent = [batch("before the end") for _ in range(20)]
    for each in sent:
        await stream.write(pb.StreamEventsRequest(batch=each).SerializeToString())
    await stream.write(b"\x0a\x03\x0a\x01\xff")  # a request_id that is not UTF-8
    receipts = [pb.StreamEventsResponse.FromString(await stream.read()).receipt for _ in sent]
    assert {receipt.request_id for receipt in receipts} == {each.request_id for each in sent}
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    refused = read_refusal(caught.value)
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert await api.count("before the end") == 20


async def test_a_stream_may_be_left_open_between_batches(api: Api) -> None:
    stream = api.ingest.StreamEvents(timeout=TIMEOUT_S)
    for n in range(3):
        await stream.write(pb.StreamEventsRequest(batch=batch("one by one")))
        answer = await asyncio.wait_for(stream.read(), TIMEOUT_S)
        assert answer.receipt.accepted_count == 1
        assert await api.count("one by one") == n + 1
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF
