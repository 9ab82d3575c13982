"""What callers share who send on one stream, and what they do not: none of them ends the others' waiting."""

import asyncio

import grpc
import pytest

from tally.client import Client, Columns, Event, OutcomeUnknown, RequestIdReused
from tally.ingest.v1 import ingest_pb2
from tests.integration.tally.peer import Peer, error_info, videos_of
from tests.support.eventually import eventually
from tests.support.peer import Context, Gate, delay, never_answer, pass_by, refuse


@pytest.mark.exact
@pytest.mark.parametrize("why", ["cancelled", "out of time"])
async def test_a_caller_who_leaves_while_his_batch_is_written_takes_nobody_along(
    peer: Peer, why: str
) -> None:
    gate = Gate()
    peer.turns.append(gate)
    # While the peer does not read, the connection takes one or two of these.
    large = Columns.of(Event(f"{n:0120}") for n in range(50_000))
    is_cancelled = why == "cancelled"
    async with Client(peer.address, transport="stream") as client:
        staying = asyncio.create_task(client.process_many([Event("first")], timeout=20))
        await until_received(peer, 1)
        leaving = [
            asyncio.create_task(client.process_many(large, timeout=20 if is_cancelled else 0.5))
            for _ in range(3)
        ]
        await asyncio.wait(leaving, timeout=0.5 if is_cancelled else None)
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        gate.open()
        assert (await staying).accepted_count == 1
        assert client.progress.retries == 0


@pytest.mark.exact
async def test_two_callers_may_send_the_same_batch_at_once_and_both_are_answered(peer: Peer) -> None:
    gate = Gate()
    peer.turns.append(gate)
    async with Client(peer.address, transport="stream") as client:
        batch = client.batch([Event("v")])
        sends = [
            asyncio.create_task(client.process_many(batch.columns, request_id=batch.request_id, timeout=20))
            for _ in range(2)
        ]
        await until_received(peer, 2)
        gate.open()
        assert [receipt.request_id for receipt in await asyncio.gather(*sends)] == [batch.request_id] * 2
        assert client.progress.retries == 0


@pytest.mark.exact
async def test_who_sends_other_events_under_an_id_that_is_under_way_is_not_given_its_receipt(
    peer: Peer,
) -> None:
    gate = Gate()
    reused = refuse(grpc.StatusCode.INVALID_ARGUMENT, "other events", error_info("REQUEST_ID_REUSED"))
    peer.turns.extend([gate, reused])
    async with Client(peer.address, transport="stream") as client:
        request_id = client.make_request_id()
        first = asyncio.create_task(client.process_many([Event("v")], request_id=request_id, timeout=20))
        await until_received(peer, 1)
        with pytest.raises(RequestIdReused):
            await client.process_many([Event("w")], request_id=request_id)
        gate.open()
        assert (await first).accepted_count == 1


async def test_a_stream_that_stays_silent_is_left_to_those_who_wait_on_it(peer: Peer) -> None:
    gate = Gate()
    peer.turns.append(gate)
    async with Client(peer.address, transport="stream") as client:
        patient = asyncio.create_task(client.process_many([Event("patient")], timeout=20))
        await until_received(peer, 1)
        with pytest.raises(OutcomeUnknown, match=r"did not answer within 0\.[23]\d* s"):
            await client.process_many([Event("hasty")], timeout=0.3)
        assert (await client.process_many([Event("on another stream")])).accepted_count == 1
        gate.open()
        assert (await patient).accepted_count == 1
    assert [received.rpc for received in peer.received] == ["StreamEvents"] * len(peer.received)


async def test_nobody_is_kept_by_a_stream_that_was_left(peer: Peer) -> None:
    ended = asyncio.Event()

    async def never(payload: bytes, context: Context) -> None:
        try:
            await never_answer(payload, context)
        finally:
            ended.set()

    peer.turns.append(never)
    async with Client(peer.address, transport="stream") as client:
        with pytest.raises(OutcomeUnknown):
            await client.process_many([Event("hasty")], timeout=0.3)
        await asyncio.wait_for(ended.wait(), 5)


async def test_what_follows_a_refusal_has_the_time_that_is_left(peer: Peer) -> None:
    left_s: list[float | None] = []

    async def look(_payload: bytes, context: Context) -> None:
        left_s.append(context.time_remaining())

    peer.turns.extend([delay(0.4), look])
    peer.refusals.append(ingest_pb2.Refusal(code=3, reason="INVALID_REQUEST", message="bad"))
    async with Client(peer.address, transport="stream") as client:
        await client.process_many([Event("v")], timeout=10)
    [left] = left_s
    assert left is not None
    assert left <= 9.6


async def test_an_answer_that_comes_after_its_caller_has_left_harms_nobody(peer: Peer) -> None:
    gate = Gate()
    peer.turns.extend([gate, pass_by])
    async with Client(peer.address, transport="stream") as client:
        hasty = asyncio.create_task(client.process_many([Event("hasty")], timeout=20))
        await until_received(peer, 1)
        patient = asyncio.create_task(client.process_many([Event("patient")], timeout=20))
        hasty.cancel()
        gate.open()
        assert (await patient).accepted_count == 1
    assert [videos_of(received) for received in peer.received] == [["hasty"], ["patient"]]


async def until_received(peer: Peer, count: int) -> None:
    """Wait for so many requests to be at the peer."""

    async def has_come() -> bool:
        return len(peer.received) >= count

    await eventually(has_come)
