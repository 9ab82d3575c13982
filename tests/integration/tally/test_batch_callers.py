"""What the callers of a client are told: who waits no longer, who finds no room, and all of them at its end."""

import asyncio

import grpc
import pytest

from tally.client import Batching, BufferFull, Client, ClientUnusable, NotSent, OutcomeUnknown, StillSending
from tally.client.transport import TransportName
from tests.integration.tally.peer import Context, Peer, never_answer, refuse, videos_of
from tests.integration.tally.test_stream import pass_by
from tests.integration.tally.transports import both
from tests.support.eventually import eventually


@pytest.mark.exact
async def test_a_caller_who_waits_no_longer_changes_nothing_about_what_is_sent(peer: Peer) -> None:
    go_on = asyncio.Event()

    async def dawdle(_payload: bytes, _context: Context) -> None:
        await go_on.wait()

    peer.turns.append(dawdle)
    async with Client(peer.address) as client:
        patient = asyncio.create_task(client.count("patient"))
        cancelled = asyncio.create_task(client.count("cancelled"))
        await asyncio.sleep(0)  # so that they come first
        with pytest.raises(StillSending, match=r"no receipt within 0.2 s; the client goes on") as raised:
            await client.count("hasty", timeout=0.2)
        cancelled.cancel()
        go_on.set()
        receipt = await patient
        assert receipt.accepted_count == 3
        assert raised.value.request_id is None
        assert [batch.request_id for batch in raised.value.batches] == [receipt.request_id]
    assert [videos_of(received) for received in peer.received] == [["patient", "cancelled", "hasty"]]


@pytest.mark.exact
async def test_a_caller_who_waits_no_longer_has_no_id_to_send_the_event_again_under(peer: Peer) -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def dawdle(_payload: bytes, _context: Context) -> None:
        arrived.set()
        await go_on.wait()

    peer.turns.append(dawdle)
    async with Client(peer.address, batching=Batching(max_in_flight=1)) as client:
        await client.submit("first")
        await arrived.wait()
        with pytest.raises(StillSending, match="Do not send it again") as raised:
            await client.count("in the buffer", timeout=0.1)
        # Whoever sends again what is unknown, under the id that the error has, must not send this.
        assert not isinstance(raised.value, OutcomeUnknown)
        assert raised.value.request_id is None
        assert raised.value.batches == ()
        go_on.set()
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


async def test_what_closing_loses_is_noted_on_what_went_wrong_in_the_block(peer: Peer) -> None:
    peer.turns.extend([refuse(grpc.StatusCode.UNAVAILABLE, "down")] * 100)
    with pytest.raises(StillSending, match="until it is closed") as raised:
        async with Client(peer.address, timeout=0.1) as client:
            await client.count("v", timeout=0.3)
    assert [note[:31] for note in raised.value.__notes__] == ["Then the client was closed, and"]
    assert "whether they were counted is not known" in raised.value.__notes__[0]


async def test_a_full_buffer_makes_callers_wait_or_raises_as_they_chose(peer: Peer) -> None:
    go_on = asyncio.Event()

    async def dawdle(_payload: bytes, _context: Context) -> None:
        await go_on.wait()

    peer.turns.extend([dawdle, dawdle])
    async with (
        Client(peer.address, batching=Batching(max_buffered_events=2)) as patient,
        Client(peer.address, batching=Batching(max_buffered_events=2, when_full="raise")) as hasty,
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
        go_on.set()
        assert (await (await waiting)).accepted_count == 1
    sent = [video for received in peer.received for video in videos_of(received)]
    assert sorted(sent) == ["a", "a", "b", "b", "c"]


@pytest.mark.exact
@both
async def test_closing_in_the_middle_declares_exactly_the_unsent_and_the_unknown(
    peer: Peer, transport: TransportName
) -> None:
    batching = Batching(max_events=2, max_in_flight=1)
    peer.turns.extend([pass_by, never_answer])
    client = Client(peer.address, transport=transport, batching=batching, timeout=0.5)
    async with client:
        futures = [await client.submit(f"v{n}") for n in range(6)]
        with pytest.raises(OutcomeUnknown, match=r"2 events had an answer.* 2 more were never sent"):
            await client.close()
        counted, unknown, unsent = futures[:2], futures[2:4], futures[4:]
        assert all(future.exception() is None for future in counted)
        assert all(isinstance(future.exception(), OutcomeUnknown) for future in unknown)
        assert all(isinstance(future.exception(), NotSent) for future in unsent)
        with pytest.raises(ClientUnusable, match=r"closed"):
            await client.submit("late")
    progress = client.progress
    assert (progress.counted_events, progress.unknown_events, progress.unsent_events) == (2, 2, 2)
    assert [videos_of(received) for received in peer.received] == [["v0", "v1"], ["v2", "v3"]]


async def test_what_was_given_up_can_be_sent_again_as_it_was(peer: Peer) -> None:
    peer.turns.append(never_answer)
    async with Client(peer.address, timeout=0.3) as client:
        await client.submit("v", value=1.0)
        with pytest.raises(OutcomeUnknown) as raised:
            await client.close()
    async with Client(peer.address) as client:
        (batch,) = raised.value.batches
        await client.process_many(batch.columns, request_id=batch.request_id)
    first, second = peer.received
    assert first.payload == second.payload


async def test_what_went_wrong_in_the_block_comes_before_what_its_end_declares(peer: Peer) -> None:
    peer.turns.append(never_answer)

    async def use() -> None:
        async with Client(peer.address, timeout=0.1) as client:
            await client.submit("v")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await use()


@both
async def test_nothing_is_left_running_after_the_end(peer: Peer, transport: TransportName) -> None:
    async def use() -> set[str]:
        async with Client(peer.address, transport=transport, batching=Batching(max_events=10)) as client:
            for n in range(95):
                await client.submit(f"v{n}")
            await client.count("last")
        await asyncio.sleep(0)
        return {repr(task) for task in asyncio.all_tasks() if task is not asyncio.current_task()}

    # On a loop of its own, for the peer has tasks too.
    assert await asyncio.to_thread(asyncio.run, use()) == set()
    assert sum(len(videos_of(received)) for received in peer.received) == 96
