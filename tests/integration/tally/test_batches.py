"""Batches over both transports, against a peer that loses answers, refuses and falls silent."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import grpc
import pytest

from tally.client import Client, Durability, Event, InvalidRequest, OutcomeUnknown, OutOfRange, Receipt
from tally.client.request_id import RequestIds, make_request_id
from tally.client.transport import TransportName
from tally.common.v1 import common_pb2
from tally.contract.request_id import RANDOM_BYTES
from tally.ingest.v1 import ingest_pb2
from tests.integration.tally.conftest import OpenClient
from tests.integration.tally.peer import Peer, bad_request, batch_of, error_info, videos_of
from tests.integration.tally.transports import RPC_OF, by_either_transport
from tests.support.peer import end_stream, never_answer, pass_by, refuse
from tests.support.relay import open_relay


@by_either_transport
async def test_events_go_in_batches_and_each_caller_gets_the_receipt(
    peer: Peer, transport: TransportName
) -> None:
    async with Client(peer.address, transport=transport) as client:
        receipts = await asyncio.gather(*(client.count(f"v{n}", "like") for n in range(50)))
        (received,) = peer.received
        assert received.rpc == RPC_OF[transport]
        assert videos_of(received) == [f"v{n}" for n in range(50)]
        assert {receipt.request_id for receipt in receipts} == {batch_of(received).request_id}
        assert receipts[0].accepted_count == 50
        assert client.progress.counted_events == 50
    columns = batch_of(received).columns
    assert list(columns.event_types) == ["like"]


async def test_an_event_keeps_everything_that_it_carries(peer: Peer) -> None:
    noon = datetime(2026, 1, 2, 12, 0, 0, 123_456, tzinfo=UTC)
    async with Client(peer.address) as client:
        await client.process(Event("v", "watched", noon, 1.5, "me"))
        future = await client.submit("v", "watched", event_time=noon, value=1.5, actor_id="me")
        other = await client.submit_event(Event("v", "watched", noon, 1.5, "me"))
        await client.flush()
        assert (await future).accepted_count == (await other).accepted_count == 2
    alone, together = (batch_of(received).columns for received in peer.received)
    assert alone == ingest_pb2.EventColumns(
        video_ids=["v"],
        event_types=["watched"],
        actor_ids=["me"],
        video_index=b"\0\0",
        event_type_index=b"\0\0",
        actor_index=b"\0\0",
        event_time_us=alone.event_time_us,
        value=alone.value,
    )
    assert int.from_bytes(alone.event_time_us, "little") == int(noon.timestamp()) * 1_000_000 + 123_456
    assert together.value == alone.value * 2


@pytest.mark.exact
@by_either_transport
async def test_after_a_lost_answer_the_same_bytes_go_again(
    peer: Peer, transport: TransportName, open_client: OpenClient
) -> None:
    async with open_relay(peer.address) as relay, open_client(relay.address, transport=transport) as client:
        peer.turns.extend([relay.drop] * 2)
        receipt = await client.count("v", timeout=20)
    assert len(peer.received) == 3
    assert len({received.payload for received in peer.received}) == 1
    assert receipt.request_id == batch_of(peer.received[0]).request_id


@pytest.mark.exact
async def test_a_stream_that_breaks_is_opened_anew_and_only_what_had_no_answer_goes_again(peer: Peer) -> None:
    async with open_relay(peer.address) as relay, Client(relay.address, transport="stream") as client:
        first = await client.count("first")
        peer.turns.append(relay.drop)
        second = await client.count("second", timeout=20)
    assert [videos_of(received) for received in peer.received] == [["first"], ["second"], ["second"]]
    assert peer.received[1].payload == peer.received[2].payload
    assert first.request_id != second.request_id


async def test_an_overloaded_service_gets_the_same_bytes_after_its_delay_by_the_stream_too(
    peer: Peer,
) -> None:
    peer.refusals.append(ingest_pb2.Refusal(code=8, reason="OVERLOADED", message="busy"))
    peer.refusals[0].retry_delay.FromMilliseconds(300)
    async with Client(peer.address, transport="stream") as client:
        await client.count("v")
    first, second = peer.received
    assert first.payload == second.payload
    assert second.at - first.at >= 0.3


async def test_an_id_out_of_range_is_made_anew_by_the_services_time(peer: Peer) -> None:
    """The clock of this machine is a day behind. A stream says no more than that, so the client asks by a call."""
    now_us = time.time_ns() // 1000
    ids = RequestIds(now_us=lambda: now_us - 25 * 3_600_000_000)
    details = error_info("OUT_OF_RANGE", server_time_us=str(now_us)), bad_request(request_id="is old")
    peer.refusals.append(ingest_pb2.Refusal(code=11, reason="OUT_OF_RANGE", message="old"))
    peer.refusals[0].server_time.FromMicroseconds(now_us)
    peer.turns.extend([pass_by, refuse(grpc.StatusCode.OUT_OF_RANGE, "old", *details)])
    async with Client(peer.address, transport="stream", request_ids=ids) as client:
        receipt = await client.count("v")
        assert (UUID(receipt.request_id).int >> 80) == now_us // 1000
        await client.count("v")
    sent = [batch_of(received) for received in peer.received]
    assert len(sent) == 4
    assert sent[-1].request_id != sent[-2].request_id != sent[0].request_id
    assert [batch.columns for batch in sent] == [sent[0].columns] * 4


async def test_an_event_that_the_service_refuses_does_not_harm_the_others(peer: Peer) -> None:
    violation = bad_request(**{"columns.video_ids[1]": "is not to my taste"})
    bad = refuse(grpc.StatusCode.INVALID_ARGUMENT, "bad", error_info("INVALID_REQUEST"), violation)
    peer.refusals.append(ingest_pb2.Refusal(code=3, reason="INVALID_REQUEST", message="columns"))
    peer.turns.extend([pass_by, bad])
    async with Client(peer.address, transport="stream") as client:
        outcomes: list[Any] = await asyncio.gather(
            *(client.count(video) for video in ("a", "b", "c")), return_exceptions=True
        )
    assert isinstance(outcomes[1], InvalidRequest)
    assert "is not to my taste" in str(outcomes[1])
    assert outcomes[0] == outcomes[2]
    assert outcomes[0].accepted_count == 2
    assert videos_of(peer.received[-1]) == ["a", "c"]
    assert batch_of(peer.received[-1]).request_id != batch_of(peer.received[0]).request_id


async def test_a_bad_event_is_refused_to_its_own_caller_before_it_joins_the_others(
    peer: Peer, open_client: OpenClient
) -> None:
    async with open_client(peer.address) as client:
        with pytest.raises(InvalidRequest, match=r"^video_id: must be"):
            await client.count("")
        with pytest.raises(InvalidRequest, match=r"^event_type: must be"):
            await client.submit("v", "A Like")
        with pytest.raises(InvalidRequest, match=r"^value: "):
            await client.process(Event("v", "watched", value=float("inf")))
        with pytest.raises(InvalidRequest, match=r"^event_time: .* before the year 2000"):
            await client.count("v", event_time=datetime(1999, 1, 1, tzinfo=UTC))
        assert client.progress.buffered_events == 0
    assert not peer.received


async def test_a_receipt_tells_of_duplicates_and_of_the_spool(peer: Peer) -> None:
    request_id = make_request_id(1_700_000_000_000, bytes(RANDOM_BYTES))
    peer.answers["ProcessEvents"] = ingest_pb2.ProcessEventsResponse(
        receipt=ingest_pb2.Receipt(
            request_id=request_id,
            accepted_count=1,
            duplicate_count=2,
            durability=common_pb2.DURABILITY_SPOOLED,
        )
    )
    async with Client(peer.address) as client:
        receipt = await client.process_many([Event("v")] * 3, request_id=request_id)
    assert receipt == Receipt(request_id, 1, 2, Durability.SPOOLED)


async def test_a_stream_that_the_service_ends_early_is_opened_anew(peer: Peer) -> None:
    peer.turns.append(end_stream)
    async with Client(peer.address, transport="stream") as client:
        await client.count("v")
    first, second = peer.received
    assert first.payload == second.payload


async def test_an_id_made_ahead_is_made_by_the_services_time_once_that_was_told(peer: Peer) -> None:
    now_us = time.time_ns() // 1000
    ids = RequestIds(now_us=lambda: now_us - 25 * 3_600_000_000)
    details = error_info("OUT_OF_RANGE", server_time_us=str(now_us))
    peer.turns.append(refuse(grpc.StatusCode.OUT_OF_RANGE, "old", details))
    async with Client(peer.address, request_ids=ids) as client:
        with pytest.raises(OutOfRange):
            await client.count("v", request_id=client.make_request_id())
        assert (UUID(client.make_request_id()).int >> 80) == now_us // 1000


async def test_a_request_of_many_events_goes_over_the_stream_too(peer: Peer) -> None:
    async with Client(peer.address, transport="stream") as client:
        receipt = await client.process_many([Event(f"{'v' * 100}{n}") for n in range(20_000)])
    assert receipt.accepted_count == 20_000
    (received,) = peer.received
    assert received.rpc == "StreamEvents"
    assert len(received.payload) > 2_000_000


async def test_a_stream_that_falls_silent_leaves_the_outcome_unknown(peer: Peer) -> None:
    peer.turns.append(never_answer)
    async with Client(peer.address, transport="stream") as client:
        with pytest.raises(OutcomeUnknown, match=r"did not answer within 0\.[23]\d* s"):
            await client.process_many([Event("v")], timeout=0.3)
