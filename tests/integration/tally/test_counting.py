import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import grpc
import pytest
from google.rpc import error_details_pb2  # type: ignore[import-untyped]  # it ships no types

from tally.client import (
    Client,
    ClientUnusable,
    Columns,
    Durability,
    Event,
    Function,
    InvalidRequest,
    OutcomeUnknown,
    OutOfRange,
    Overloaded,
    PermissionDenied,
    Receipt,
    RequestIdReused,
    Violation,
)
from tally.common.v1 import common_pb2
from tally.ingest.v1 import ingest_pb2
from tests.integration.tally.conftest import OpenClient
from tests.integration.tally.peer import Peer, accept, bad_request, error_info, retry_after
from tests.support.peer import Context, Gate, never_answer, refuse
from tests.support.relay import open_relay

NOON = datetime(2026, 1, 2, 12, 0, 0, 123_456, tzinfo=UTC)
ID = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


async def test_an_id_of_the_callers_own_goes_in_a_call_of_its_own(client: Client, peer: Peer) -> None:
    request_id = client.make_request_id()
    receipt = await client.count(
        "a video", "like", event_time=NOON, actor_id="someone", request_id=request_id
    )
    sent = ingest_pb2.CountEventRequest.FromString(peer.received[0].payload)
    assert receipt == Receipt(sent.request_id, 1, 0, Durability.JOURNALED)
    assert sent.request_id == request_id
    age = datetime.now(UTC) - datetime.fromtimestamp((UUID(request_id).int >> 80) / 1000, UTC)
    assert timedelta(seconds=-1) < age < timedelta(seconds=60)
    assert (sent.video_id, sent.event_type, sent.actor_id) == ("a video", "like", "someone")
    assert sent.event_time.ToNanoseconds() == int(NOON.timestamp()) * 10**9 + 123_456_000


async def test_every_request_has_an_id_of_its_own(client: Client, peer: Peer) -> None:
    await asyncio.gather(*(client.count("v", request_id=client.make_request_id()) for _ in range(20)))
    ids = {ingest_pb2.CountEventRequest.FromString(r.payload).request_id for r in peer.received}
    assert len(ids) == 20


async def test_an_event_carries_its_value_and_function(client: Client, peer: Peer) -> None:
    await client.process(Event("v", "seconds_watched", NOON, 0.0, "me", Function.SUM), request_id=ID)
    sent = ingest_pb2.ProcessEventRequest.FromString(peer.received[0].payload)
    assert sent.request_id == ID
    assert sent.event.HasField("value")
    assert sent.event.value == 0
    assert sent.event.function == common_pb2.FUNCTION_SUM


async def test_an_event_without_value_time_or_function_sends_none(client: Client, peer: Peer) -> None:
    await client.process(Event("v"), request_id=ID)
    sent = ingest_pb2.ProcessEventRequest.FromString(peer.received[0].payload)
    expected = ingest_pb2.Event(video_id="v", event_type="view")
    assert sent == ingest_pb2.ProcessEventRequest(event=expected, request_id=ID)


async def test_many_events_go_as_columns_in_one_request(client: Client, peer: Peer) -> None:
    receipt = await client.process_many(Event(f"v{n % 3}") for n in range(1_000))
    assert receipt.accepted_count == 1_000
    sent = ingest_pb2.ProcessEventsRequest.FromString(peer.received[0].payload)
    assert not sent.events
    assert list(sent.columns.video_ids) == ["v0", "v1", "v2"]


async def test_ready_made_columns_are_sent_as_they_are(client: Client, peer: Peer) -> None:
    columns = Columns(
        video_ids=("v",), event_types=("view",), video_index=bytes(8), event_type_index=bytes(8)
    )
    assert (await client.process_many(columns)).accepted_count == 4
    sent = ingest_pb2.ProcessEventsRequest.FromString(peer.received[0].payload)
    assert sent.columns == columns.to_message()


@pytest.mark.parametrize("count", [0, 50_001])
async def test_a_request_of_no_events_or_too_many_is_not_sent(client: Client, peer: Peer, count: int) -> None:
    with pytest.raises(InvalidRequest, match=rf"1 to 50,000 events, not {count:,}"):
        await client.process_many([Event("v")] * count)
    assert not peer.received


async def test_a_request_over_8_mib_is_not_sent(client: Client, peer: Peer) -> None:
    with pytest.raises(InvalidRequest, match="are more than the 8,388,608"):
        await client.process_many(Event("v" * 1_000 + str(n)) for n in range(10_000))
    assert not peer.received


async def test_a_retry_after_unavailable_sends_the_same_bytes(client: Client, peer: Peer) -> None:
    peer.turns.append(refuse(grpc.StatusCode.UNAVAILABLE))
    receipt = await client.count("v", request_id=ID)
    first, second = peer.received
    assert first.payload == second.payload
    assert ingest_pb2.CountEventRequest.FromString(first.payload).request_id == receipt.request_id


async def test_a_large_request_is_retried_too(client: Client, peer: Peer) -> None:
    peer.turns.append(refuse(grpc.StatusCode.UNAVAILABLE))
    await client.process_many(Event(f"{'v' * 100}{n}") for n in range(50_000))
    assert len(peer.received[0].payload) > 5_000_000
    assert peer.received[0].payload == peer.received[1].payload


async def test_a_retry_after_a_lost_acknowledgement_sends_the_same_bytes(
    peer: Peer, open_client: OpenClient
) -> None:
    async with open_relay(peer.address) as relay, open_client(relay.address) as client:
        peer.turns.append(relay.drop)
        receipt = await client.count("v", request_id=ID)
    first, second = (ingest_pb2.CountEventRequest.FromString(r.payload) for r in peer.received)
    assert first == second
    assert receipt.request_id == first.request_id


async def test_after_four_attempts_without_an_answer_the_outcome_is_unknown(
    client: Client, peer: Peer
) -> None:
    peer.turns.extend([refuse(grpc.StatusCode.UNAVAILABLE, "down")] * 10)
    with pytest.raises(OutcomeUnknown, match="cannot be reached") as raised:
        await client.count("v", request_id=ID)
    assert len(peer.received) == 4
    assert raised.value.reason == "UNAVAILABLE"
    assert raised.value.request_id == ID


async def test_a_deadline_makes_the_outcome_unknown_and_the_same_id_goes_again(
    client: Client, peer: Peer
) -> None:
    peer.turns.append(never_answer)
    with pytest.raises(OutcomeUnknown, match=r"did not answer within 0\.[45]\d* s") as raised:
        await client.count("v", request_id=client.make_request_id(), timeout=0.5)
    assert raised.value.reason == "DEADLINE_EXCEEDED"
    assert raised.value.request_id
    assert raised.value.request_id in str(raised.value)
    await client.count("v", request_id=raised.value.request_id)
    assert peer.received[0].payload == peer.received[1].payload


async def test_an_overloaded_service_gets_the_same_bytes_after_its_delay(client: Client, peer: Peer) -> None:
    busy = refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy", error_info("OVERLOADED"), retry_after(0.3))
    peer.turns.append(busy)
    await client.count("v", request_id=ID)
    first, second = peer.received
    assert first.payload == second.payload
    assert second.at - first.at >= 0.3


async def test_a_delay_beyond_the_deadline_is_not_waited_for(client: Client, peer: Peer) -> None:
    peer.turns.append(
        refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy", error_info("OVERLOADED"), retry_after(60))
    )
    with pytest.raises(Overloaded, match=r"^busy$") as raised:
        await asyncio.wait_for(client.count("v", request_id=ID), 2)
    assert raised.value.retry_after_s == 60
    assert raised.value.request_id == ID
    assert len(peer.received) == 1


async def test_exhaustion_without_a_delay_is_not_retried(client: Client, peer: Peer) -> None:
    peer.turns.append(refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "message too large"))
    with pytest.raises(Overloaded):
        await client.count("v", request_id=ID)
    assert len(peer.received) == 1


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    ],
)
async def test_a_status_that_settles_nothing_leaves_the_outcome_unknown_and_is_not_retried(
    client: Client, peer: Peer, code: grpc.StatusCode
) -> None:
    peer.turns.append(refuse(code))
    with pytest.raises(OutcomeUnknown) as raised:
        await client.count("v", request_id=ID)
    assert raised.value.request_id == ID
    assert len(peer.received) == 1


async def test_an_answer_that_is_no_receipt_of_the_request_leaves_the_outcome_unknown(
    client: Client, peer: Peer
) -> None:
    peer.answers = {
        "CountEvent": ingest_pb2.CountEventResponse(),
        "ProcessEvent": ingest_pb2.ProcessEventResponse(receipt=accept(client.make_request_id())),
        "ProcessEvents": ingest_pb2.ProcessEventsResponse(receipt=accept(client.make_request_id(), 2)),
    }
    request_id = client.make_request_id()
    for call in (
        client.count("v", request_id=request_id),
        client.process(Event("v"), request_id=request_id),
        client.process_many([Event("v")] * 2, request_id=request_id, timeout=1),
    ):
        with pytest.raises(OutcomeUnknown, match="no receipt of this request") as raised:
            await call
        assert raised.value.request_ids == (request_id,)


async def test_an_invalid_request_lists_what_is_wrong(client: Client, peer: Peer) -> None:
    peer.turns.append(
        refuse(
            grpc.StatusCode.INVALID_ARGUMENT,
            "video_id: too long",
            error_info("INVALID_REQUEST", violations="2"),
            bad_request(video_id="too long", actor_id="too long as well"),
        )
    )
    with pytest.raises(InvalidRequest, match=r"^video_id: too long$") as raised:
        await client.count("v" * 200, request_id=ID)
    assert raised.value.reason == "INVALID_REQUEST"
    assert raised.value.metadata == {"violations": "2"}
    assert raised.value.violations == (
        Violation("video_id", "too long"),
        Violation("actor_id", "too long as well"),
    )


async def test_an_id_used_for_other_events_has_an_error_of_its_own(client: Client, peer: Peer) -> None:
    peer.turns.append(refuse(grpc.StatusCode.INVALID_ARGUMENT, "reused", error_info("REQUEST_ID_REUSED")))
    with pytest.raises(RequestIdReused):
        await client.count("v", request_id=ID)


async def test_a_time_out_of_range_brings_the_time_of_the_server(client: Client, peer: Peer) -> None:
    peer.turns.append(
        refuse(
            grpc.StatusCode.OUT_OF_RANGE, "old", error_info("OUT_OF_RANGE", server_time_us="1700000000000001")
        )
    )
    with pytest.raises(OutOfRange) as raised:
        await client.count("v", request_id=ID)
    assert raised.value.server_time_us == 1_700_000_000_000_001
    assert raised.value.request_id == ID


async def test_the_details_of_another_are_not_taken_for_tallys_own(client: Client, peer: Peer) -> None:
    foreign = error_details_pb2.ErrorInfo(reason="BALANCER_FULL", domain="balancer", metadata={"a": "b"})
    peer.turns.append(refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", foreign))
    with pytest.raises(Overloaded, match="answered RESOURCE_EXHAUSTED: full") as raised:
        await client.count("v", request_id=ID)
    assert (raised.value.reason, raised.value.metadata) == ("RESOURCE_EXHAUSTED", {})


async def test_details_that_cannot_be_read_leave_the_status_as_it_is(client: Client, peer: Peer) -> None:
    details = ("grpc-status-details-bin", b"\xff\xff not a status")

    async def confuse(_payload: bytes, context: Context) -> None:
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "who are you?", (details,))

    peer.turns.append(confuse)
    with pytest.raises(PermissionDenied, match="answered PERMISSION_DENIED: who are you") as raised:
        await client.count("v", request_id=ID)
    assert raised.value.reason == "PERMISSION_DENIED"


async def test_a_cancelled_call_is_cancelled(peer: Peer) -> None:
    gate = Gate()
    peer.turns.append(gate)
    async with Client(peer.address) as client:
        call = asyncio.create_task(client.count("v", request_id=ID))
        await asyncio.wait_for(gate.arrived.wait(), 5)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_a_client_that_is_not_open_or_closed_says_so(peer: Peer) -> None:
    client = Client(peer.address)
    with pytest.raises(ClientUnusable, match="async with Client"):
        await client.count("v")
    async with client:
        await client.count("v")
    with pytest.raises(ClientUnusable, match="closed"):
        await client.count("v")


async def test_a_client_of_another_event_loop_says_so(peer: Peer) -> None:
    async with Client(peer.address) as client:
        with pytest.raises(ClientUnusable, match="another event loop"):
            await asyncio.to_thread(asyncio.run, client.health())


def test_an_address_with_http_is_refused() -> None:
    with pytest.raises(ValueError, match="host:port alone"):
        Client("http://127.0.0.1:50051")


async def test_a_proxy_in_the_environment_is_not_asked_for_this_machine(
    peer: Peer, open_client: OpenClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    for address in (peer.address, peer.address.replace("127.0.0.1", "localhost")):
        async with open_client(address) as client:
            await client.count("v")
    assert len(peer.received) == 2
