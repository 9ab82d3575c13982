"""What callers are told who wait no longer, or find no room, or whose events are refused."""

import asyncio

import grpc
import pytest

from tally.client import Batching, BufferFull, Client, InvalidRequest, OutcomeUnknown, StillSending
from tests.integration.tally.conftest import OpenClient
from tests.integration.tally.peer import Peer, batch_of, error_info, videos_of
from tests.support.eventually import eventually
from tests.support.peer import Context, Gate, refuse


@pytest.mark.exact
async def test_a_caller_who_waits_no_longer_changes_nothing_about_what_is_sent(
    peer: Peer, client: Client
) -> None:
    gate = Gate()
    peer.turns.append(gate)
    with pytest.raises(StillSending, match=r"no receipt within 0.2 s; the client goes on") as raised:
        await client.count("hasty", timeout=0.2)
    gate.open()
    await client.flush()
    assert client.progress.counted_events == 1
    [received] = peer.received
    assert videos_of(received) == ["hasty"]
    assert raised.value.request_id is None
    assert [batch.request_id for batch in raised.value.batches] == [batch_of(received).request_id]


@pytest.mark.exact
async def test_a_caller_who_waits_no_longer_has_no_id_to_send_the_event_again_under(
    peer: Peer, open_client: OpenClient
) -> None:
    gate = Gate()
    peer.turns.append(gate)
    async with open_client(peer.address, batching=Batching(max_in_flight=1)) as client:
        await client.submit("first")
        await gate.arrived.wait()
        with pytest.raises(StillSending, match="Do not send it again") as raised:
            await client.count("in the buffer", timeout=0.1)
        # Whoever sends again what is unknown, under the id that the error has, must not send this.
        assert not isinstance(raised.value, OutcomeUnknown)
        assert raised.value.request_id is None
        assert raised.value.batches == ()
        gate.open()
        await client.flush()
    assert [videos_of(received) for received in peer.received] == [["first"], ["in the buffer"]]


async def test_a_caller_who_waits_no_longer_is_told_what_is_wrong(peer: Peer) -> None:
    peer.turns.extend([refuse(grpc.StatusCode.UNAVAILABLE, "down")] * 100)
    async with Client(peer.address, timeout=0.1) as client:
        with pytest.raises(StillSending, match=r"the last attempt: .* cannot be reached") as raised:
            await client.count("v", timeout=1.5)
        assert raised.value.reason == "UNAVAILABLE"
        assert "same id" not in raised.value.message  # that is for whoever has the whole request
        assert client.progress.retries > 0
        with pytest.raises(OutcomeUnknown):
            await client.close()


async def test_an_event_that_is_refused_before_it_finds_room_does_not_keep_the_next_one_out(
    peer: Peer,
) -> None:
    gate = Gate()
    peer.turns.append(gate)
    async with Client(peer.address, batching=Batching(max_buffered_events=1)) as client:
        await client.submit("first")
        bad = asyncio.create_task(client.submit("x" * 200))
        good = asyncio.create_task(client.submit("good"))
        await asyncio.sleep(0.05)
        gate.open()
        with pytest.raises(InvalidRequest):
            await bad
        assert (await (await asyncio.wait_for(good, 5))).accepted_count == 1


async def test_while_nothing_answers_it_is_logged_now_and_then_and_why(
    peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    peer.turns.extend([refuse(grpc.StatusCode.UNAVAILABLE, "down")] * 100)
    async with Client(peer.address, timeout=0.1) as client:
        await client.submit("v")

        async def was_logged() -> bool:
            return bool(caplog.messages)

        await eventually(was_logged)
        [message] = caplog.messages
        assert f"events wait (the last attempt: {peer.address} cannot be reached (down)." in message
        before = len(peer.received)

        async def was_asked_again() -> bool:
            return len(peer.received) >= before + 2

        await eventually(was_asked_again)
        assert len(caplog.messages) == 1
        with pytest.raises(OutcomeUnknown, match=r"before 1 event had .*the last attempt: .*down") as raised:
            await client.close()
        assert raised.value.unreachable == peer.address


async def test_a_full_buffer_makes_callers_wait_or_raises_as_they_chose(
    peer: Peer, open_client: OpenClient
) -> None:
    gate = Gate()
    peer.turns.extend([gate] * 4)
    async with (
        open_client(peer.address, batching=Batching(max_buffered_events=2)) as patient,
        open_client(peer.address, batching=Batching(max_buffered_events=2, when_full="raise")) as hasty,
    ):
        for client in (patient, hasty):
            for video in ("a", "b"):
                await client.submit(video)
        with pytest.raises(BufferFull):
            await hasty.submit("c")
        with pytest.raises(BufferFull, match=r"no room within 0.1 s"):
            await patient.count("never taken", timeout=0.1)
        waiting = asyncio.create_task(patient.submit("c"))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        gate.open()
        assert (await (await waiting)).accepted_count == 1
    sent = [video for received in peer.received for video in videos_of(received)]
    assert sorted(sent) == ["a", "a", "b", "b", "c"]


@pytest.mark.exact
async def test_what_becomes_of_an_event_whose_caller_has_gone_is_told_by_flush(
    peer: Peer, client: Client
) -> None:
    go_on = asyncio.Event()

    async def dawdle_and_refuse(payload: bytes, context: Context) -> None:
        await go_on.wait()
        await refuse(grpc.StatusCode.INVALID_ARGUMENT, "bad", error_info("INVALID_REQUEST"))(payload, context)

    peer.turns.append(dawdle_and_refuse)
    with pytest.raises(StillSending):
        await client.count("v", timeout=0.2)
    go_on.set()
    with pytest.raises(InvalidRequest):
        await client.flush()
