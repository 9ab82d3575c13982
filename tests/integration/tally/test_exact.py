"""Events through a real Tally whose connections are cut again and again: each is counted once."""

import asyncio
import random
from collections import Counter

import pytest

from tally.client import Batching, Client, Event, Receipt, RequestIdReused
from tally.client.transport import TransportName
from tests.integration.tally.transports import by_either_transport
from tests.support.proof import assert_exact
from tests.support.relay import open_relay
from tests.support.stack import Stack

EVENTS = 2_000


@pytest.mark.exact
@by_either_transport
async def test_cut_connections_neither_lose_an_event_nor_count_it_twice(
    stack: Stack, transport: TransportName
) -> None:
    choose = random.Random(7)
    keys: Counter[tuple[str, str]] = Counter()
    receipts: dict[str, Receipt] = {}
    batching = Batching(max_events=50, max_in_flight=4)
    async with (
        open_relay(stack.address) as relay,
        Client(relay.address, transport=transport, batching=batching, timeout=60) as client,
    ):
        futures = []
        for n in range(EVENTS):
            key = (f"video {choose.randrange(40)}", choose.choice(["view", "like"]))
            keys[key] += 1
            futures.append(await client.submit(*key))
            if n % 400 == 399:
                # A cut may come before a request or after its answer: cut until one of them has to go again.
                before = client.progress.retries
                while client.progress.retries == before and client.progress.in_flight_requests:
                    await asyncio.sleep(0.005)
                    relay.cut()
        await client.flush()
        for future in futures:
            receipt = future.result()
            receipts[receipt.request_id] = receipt
        assert client.progress.counted_events == EVENTS
    # What one attempt counted, a later one may call duplicate; together they are the events of the request.
    assert sum(r.accepted_count + r.duplicate_count for r in receipts.values()) == EVENTS
    await assert_exact(stack.dsn, keys)


async def test_the_same_event_by_another_method_is_other_content_under_its_id(stack: Stack) -> None:
    event, request_id = Event("v", "like", value=2.0), stack.client.make_request_id()
    await stack.client.process(event, request_id=request_id)
    with pytest.raises(RequestIdReused):
        await stack.client.process_many([event], request_id=request_id)
    again = await stack.client.process(event, request_id=request_id)
    assert (again.accepted_count, again.duplicate_count) == (0, 1)
    assert (await stack.client.get_count("v", "like", strong=True)).count == 1
