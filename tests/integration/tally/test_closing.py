"""The end of a client: what is under way is waited for, and what is lost is declared."""

import asyncio

import grpc
import pytest

from tally.client import Batching, Client, OutcomeUnknown, StillSending
from tally.client.transport import TransportName
from tests.integration.tally.conftest import OpenClient
from tests.integration.tally.peer import Peer, videos_of
from tests.integration.tally.transports import by_either_transport
from tests.support.peer import Gate, never_answer, refuse

ID = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


async def test_what_closing_loses_is_noted_on_what_went_wrong_in_the_block(
    peer: Peer, open_client: OpenClient
) -> None:
    peer.turns.extend([refuse(grpc.StatusCode.UNAVAILABLE, "down")] * 100)
    with pytest.raises(StillSending, match="until it is closed") as raised:
        async with open_client(peer.address, timeout=0.1) as client:
            await client.count("v", timeout=0.3)
    assert [note[:31] for note in raised.value.__notes__] == ["Then the client was closed, and"]
    assert "whether they were counted is not known" in raised.value.__notes__[0]


async def test_what_was_given_up_can_be_sent_again_as_it_was(peer: Peer, open_client: OpenClient) -> None:
    peer.turns.append(never_answer)
    async with open_client(peer.address, timeout=0.3) as client:
        await client.submit("v", value=1.0)
        with pytest.raises(OutcomeUnknown) as raised:
            await client.close()
    async with open_client(peer.address) as client:
        (batch,) = raised.value.batches
        await client.process_many(batch.columns, request_id=batch.request_id)
    first, second = peer.received
    assert first.payload == second.payload


async def test_what_went_wrong_in_the_block_comes_before_what_its_end_declares(
    peer: Peer, open_client: OpenClient
) -> None:
    peer.turns.append(never_answer)

    async def use() -> None:
        async with open_client(peer.address, timeout=0.1) as client:
            await client.submit("v")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await use()


@by_either_transport
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


async def test_closing_waits_for_calls_under_way(peer: Peer, open_client: OpenClient) -> None:
    gate = Gate()
    peer.turns.append(gate)
    async with open_client(peer.address) as client:
        call = asyncio.create_task(client.count("v"))
        await asyncio.wait_for(gate.arrived.wait(), 5)
        closing = asyncio.create_task(client.close())
        await asyncio.sleep(0)  # lets the closing begin
        gate.open()
        await closing
        assert (await call).accepted_count == 1


async def test_a_write_that_is_cut_off_by_closing_has_an_unknown_outcome(
    peer: Peer, open_client: OpenClient
) -> None:
    gate = Gate()
    peer.turns.append(gate)
    async with open_client(peer.address, timeout=0.5) as client:
        call = asyncio.create_task(client.count("v", request_id=ID, timeout=60))
        await asyncio.wait_for(gate.arrived.wait(), 5)
    with pytest.raises(OutcomeUnknown) as raised:
        await call
    assert (raised.value.request_id, raised.value.reason) == (ID, "CLIENT_CLOSED")
