import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import grpc
import pytest

from tally.client import Batch, Client, Event, OutcomeUnknown, Receipt, Refusal
from tally.ingest.v1 import ingest_pb2
from tests.integration.tally.conftest import OpenClient
from tests.integration.tally.peer import Peer, error_info
from tests.support.peer import end_stream, never_answer, pass_by, refuse
from tests.support.relay import open_relay


async def collect(
    outcomes: AsyncIterator[Receipt | Refusal], answered: list[str], each: asyncio.Event | None = None
) -> None:
    """Read a stream to its end and keep the ids in `answered`, also when it breaks; set `each` after each."""
    async for outcome in outcomes:
        answered.append(outcome.request_id)
        if each:
            each.set()


async def test_each_batch_is_answered_by_its_id_and_a_refused_one_does_not_end_the_stream(
    client: Client,
) -> None:
    batches = [client.batch([Event(video)] * 3) for video in ("a", "refused", "b")]
    outcomes = {outcome.request_id: outcome async for outcome in client.stream(batches)}
    assert list(outcomes) == [batch.request_id for batch in batches]
    first, refused, last = outcomes.values()
    assert isinstance(first, Receipt)
    assert isinstance(last, Receipt)
    assert first.accepted_count == last.accepted_count == 3
    assert refused == Refusal(batches[1].request_id, "RESOURCE_EXHAUSTED", "OVERLOADED", "too much")


async def test_answers_come_while_batches_still_go(client: Client) -> None:
    go_on = asyncio.Event()

    async def batches() -> AsyncIterator[Batch]:
        yield client.batch([Event("a")])
        await asyncio.wait_for(go_on.wait(), 5)
        yield client.batch([Event("b")])

    answered: list[str] = []
    await collect(client.stream(batches()), answered, go_on)
    assert len(answered) == 2


async def test_a_stream_of_nothing_has_no_outcomes(client: Client) -> None:
    assert [outcome async for outcome in client.stream([])] == []


async def test_a_broken_stream_names_the_batches_without_an_answer(client: Client, peer: Peer) -> None:
    peer.turns.extend([pass_by, refuse(grpc.StatusCode.INTERNAL, "it broke", error_info("INTERNAL"))])
    batches = [client.batch([Event(video)]) for video in ("a", "b")]
    answered: list[str] = []
    with pytest.raises(OutcomeUnknown, match="it broke") as raised:
        await collect(client.stream(batches), answered)
    assert answered == [batches[0].request_id]
    assert raised.value.request_ids == (batches[1].request_id,)


async def test_a_stream_that_is_cut_can_be_sent_again_as_it_was(peer: Peer, open_client: OpenClient) -> None:
    async with open_relay(peer.address) as relay, open_client(relay.address) as client:
        first, second = (client.batch([Event(video)]) for video in ("a", "b"))
        answered: list[str] = []
        go_on = asyncio.Event()

        async def batches() -> AsyncIterator[Batch]:
            yield first
            await asyncio.wait_for(go_on.wait(), 5)
            yield second

        peer.turns.extend([pass_by, relay.drop])
        with pytest.raises(OutcomeUnknown, match="cannot be reached") as raised:
            await collect(client.stream(batches()), answered, go_on)
        assert answered == [first.request_id]
        assert raised.value.request_ids == (second.request_id,)
        await collect(client.stream([second]), answered)
    assert answered == [first.request_id, second.request_id]
    assert peer.received[-1].payload == peer.received[-2].payload


async def test_what_the_source_of_batches_raises_is_raised(client: Client) -> None:
    def batches() -> Iterator[Batch]:
        yield client.batch([Event("a")])
        raise KeyError("the source")

    with pytest.raises(KeyError, match="the source"):
        await collect(client.stream(batches()), [])


async def test_a_stream_can_be_left_in_the_middle(client: Client) -> None:
    async def batches() -> AsyncIterator[Batch]:
        while True:
            yield client.batch([Event("a")])

    async with aclosing(client.stream(batches())) as outcomes:
        async for outcome in outcomes:
            assert isinstance(outcome, Receipt)
            break
    assert (await client.count("v")).accepted_count == 1


async def test_a_stream_may_have_an_end_in_time(client: Client, peer: Peer) -> None:
    peer.turns.append(never_answer)
    batch = client.batch([Event("a")])
    with pytest.raises(OutcomeUnknown, match=r"did not answer within 0\.[45]\d* s") as raised:
        await collect(client.stream([batch], timeout=0.5), [])
    assert raised.value.request_ids == (batch.request_id,)


async def test_a_stream_that_the_service_ends_early_is_not_taken_for_success(
    client: Client, peer: Peer
) -> None:
    peer.turns.append(end_stream)
    batch = client.batch([Event("a")])
    with pytest.raises(OutcomeUnknown, match="before it had answered every batch") as raised:
        await collect(client.stream([batch]), [])
    assert raised.value.request_ids == (batch.request_id,)
    assert ingest_pb2.StreamEventsRequest.FromString(peer.received[0].payload).batch == batch.to_message()
