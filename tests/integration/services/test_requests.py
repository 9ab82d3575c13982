"""What a request id promises: the same request counts once, however often and in whatever company it comes."""

import asyncio
from typing import Any

import grpc
import pytest

from libs.domain.partition import partition_of
from tally.common.v1.common_pb2 import DURABILITY_JOURNALED
from tally.contract.request_id import parse_request_id
from tally.ingest.v1 import ingest_pb2 as pb
from tests.integration.services.api import TIMEOUT_S, Api, new_id, refused
from tests.support.database import PARTITION_COUNT

pytestmark = pytest.mark.asyncio(loop_scope="module")

REUSED = (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED", ["request_id"])


def views(*video_ids: str, request_id: str) -> pb.ProcessEventsRequest:
    return pb.ProcessEventsRequest(
        request_id=request_id,
        events=[pb.Event(video_id=video_id, event_type="view") for video_id in video_ids],
    )


async def process(api: Api, *video_ids: str, request_id: str) -> tuple[int, int]:
    """Count views; what was accepted, and what was a duplicate."""
    answer = await api.ingest.ProcessEvents(views(*video_ids, request_id=request_id), timeout=TIMEOUT_S)
    assert answer.receipt.request_id == request_id
    assert answer.receipt.durability == DURABILITY_JOURNALED
    return answer.receipt.accepted_count, answer.receipt.duplicate_count


def in_partition(partition: int, name: str) -> str:
    """A video id of this partition."""
    return next(
        video_id
        for video_id in (f"{name} {number}" for number in range(10_000))
        if partition_of(video_id, PARTITION_COUNT) == partition
    )


async def test_a_request_without_an_id_is_told_the_one_that_it_got(api: Api) -> None:
    request = pb.CountEventRequest(video_id="no id", event_type="view")
    receipts = [(await api.ingest.CountEvent(request, timeout=TIMEOUT_S)).receipt for _ in range(2)]
    ids = {str(parse_request_id(receipt.request_id)) for receipt in receipts}
    assert len(ids) == 2
    assert [receipt.accepted_count for receipt in receipts] == [1, 1]  # the server cannot know a retry
    assert await api.count("no id") == 2


@pytest.mark.parametrize("method", ["CountViewEvent", "CountEvent", "ProcessEvent", "ProcessEvents"])
async def test_a_retry_is_a_duplicate_by_every_method(api: Api, method: str) -> None:
    video_id, request_id = f"retried {method}", new_id()
    request: Any = {
        "CountViewEvent": pb.CountViewEventRequest(video_id=video_id, request_id=request_id),
        "CountEvent": pb.CountEventRequest(video_id=video_id, event_type="view", request_id=request_id),
        "ProcessEvent": pb.ProcessEventRequest(
            event=pb.Event(video_id=video_id, event_type="view"), request_id=request_id
        ),
        "ProcessEvents": views(video_id, request_id=request_id),
    }[method]
    receipts = [(await getattr(api.ingest, method)(request, timeout=TIMEOUT_S)).receipt for _ in range(3)]
    assert [(receipt.accepted_count, receipt.duplicate_count) for receipt in receipts] == [
        (1, 0),
        (0, 1),
        (0, 1),
    ]
    assert {receipt.request_id for receipt in receipts} == {request_id}
    assert await api.count(video_id) == 1


async def test_accepted_and_duplicate_are_together_the_events_of_the_request(api: Api) -> None:
    videos = [f"many {n % 9}" for n in range(100)]
    request_id = new_id()
    assert await process(api, *videos, request_id=request_id) == (100, 0)
    assert await process(api, *videos, request_id=request_id) == (0, 100)
    assert sum([await api.count(f"many {n}") for n in range(9)]) == 100


async def test_a_request_that_was_journaled_in_part_is_completed_by_its_retry(api: Api) -> None:
    videos = [in_partition(partition, "in part") for partition in range(PARTITION_COUNT)]
    request_id = new_id()
    assert await process(api, *videos, request_id=request_id) == (PARTITION_COUNT, 0)
    # As after a shard that died: two of its entries never came to the journal.
    lost = "delete from counting.journal where request_id = $1 and partition < 2"
    assert await api.database.execute(lost, parse_request_id(request_id)) == "DELETE 2"
    assert await process(api, *videos, request_id=request_id) == (2, PARTITION_COUNT - 2)


async def test_the_same_request_twice_at_once_counts_once(api: Api) -> None:
    for round_ in range(5):
        video_id, request_id = f"at once {round_}", new_id()
        counted = await asyncio.gather(
            *(process(api, *[video_id] * 7, request_id=request_id) for _ in range(8))
        )
        assert sorted(counted) == [(0, 7)] * 7 + [(7, 0)]
        assert await api.count(video_id) == 7


async def test_an_id_used_again_for_other_content_is_refused(api: Api) -> None:
    request_id = new_id()
    assert await process(api, "first content", request_id=request_id) == (1, 0)
    for others in (
        ["first content"] * 2,
        [in_partition(partition_of("first content", PARTITION_COUNT), "other")],
    ):
        refusal = await refused(
            api.ingest.ProcessEvents(views(*others, request_id=request_id), timeout=TIMEOUT_S)
        )
        assert (refusal.code, refusal.reason, refusal.fields) == REUSED
        assert refusal.metadata["violations"] == "1"
    assert await process(api, "first content", request_id=request_id) == (0, 1)
    assert await api.count("first content") == 1


async def test_another_rpc_is_other_content_too(api: Api) -> None:
    request_id = new_id()
    assert await process(api, "by two methods", request_id=request_id) == (1, 0)
    request = pb.CountViewEventRequest(video_id="by two methods", request_id=request_id)
    refusal = await refused(api.ingest.CountViewEvent(request, timeout=TIMEOUT_S))
    assert (refusal.code, refusal.reason, refusal.fields) == REUSED


async def test_one_id_with_two_contents_at_once_counts_one_of_them(api: Api) -> None:
    for round_ in range(5):
        video_id, request_id = f"contest {round_}", new_id()
        results = await asyncio.gather(
            *(process(api, *[video_id] * n, request_id=request_id) for n in (1, 2, 3)), return_exceptions=True
        )
        refusals = [result for result in results if isinstance(result, grpc.aio.AioRpcError)]
        counted = [result for result in results if not isinstance(result, BaseException)]
        assert [error.code() for error in refusals] == [grpc.StatusCode.INVALID_ARGUMENT] * 2
        assert [duplicate for _, duplicate in counted] == [0]
        assert await api.count(video_id) == counted[0][0]


async def test_other_content_in_another_partition_meets_no_predecessor(api: Api) -> None:
    # The guard is against broken clients, and stands where entries meet. Nothing is lost or counted twice by it.
    here, there = in_partition(0, "here"), in_partition(1, "there")
    request_id = new_id()
    assert await process(api, here, request_id=request_id) == (1, 0)
    assert await process(api, there, request_id=request_id) == (1, 0)
    refusal = await refused(
        api.ingest.ProcessEvents(views(here, there, request_id=request_id), timeout=TIMEOUT_S)
    )
    assert (refusal.code, refusal.reason, refusal.fields) == REUSED
    assert [await api.count(video_id) for video_id in (here, there)] == [1, 1]


async def test_single_events_of_many_callers_at_once_are_each_counted(api: Api) -> None:
    requests = [
        pb.CountEventRequest(video_id=f"crowd {n % 6}", event_type="like", request_id=new_id())
        for n in range(120)
    ]
    answers = await asyncio.gather(
        *(api.ingest.CountEvent(request, timeout=TIMEOUT_S) for request in requests)
    )
    assert [answer.receipt.request_id for answer in answers] == [request.request_id for request in requests]
    assert {answer.receipt.accepted_count for answer in answers} == {1}
    assert [await api.count(f"crowd {n}", "like") for n in range(6)] == [20] * 6
