"""Signals, the garbage collector and other threads come in at every line of `add`."""

import asyncio
from collections.abc import Callable
from itertools import count

from tally.client import Batching, ClientUnusable
from tally.client._buffering.batcher import Batcher
from tally.client._delivery.sending import Sender
from tally.client.request_id import RequestIds
from tests.support.interrupts import At, Interrupt, interrupt
from tests.support.virtual_time import in_virtual_time
from tests.unit.tally.batching import Future, open_case
from tests.unit.tally.transport import Transport


@in_virtual_time
async def test_a_signal_that_raises_in_the_middle_of_handing_in_harms_no_other_event() -> None:
    for number in count():
        async with open_case(Batching(max_events=3)) as case:
            at = At(number, interrupt)
            taken: list[Future] = []
            try:
                with at:
                    taken.extend(case.add("a"))
            except Interrupt:
                pass
            taken.extend(case.add("b"))
            async with asyncio.timeout(1.0):
                receipts = await asyncio.gather(*taken)
            assert case.transport.videos in (["a", "b"], ["b"])
            assert {receipt.accepted_count for receipt in receipts} == {len(case.transport.videos)}
        if not at.was_reached:
            break
    assert number > 10


@in_virtual_time
async def test_an_event_that_is_handed_in_in_the_middle_of_another_is_counted_like_any() -> None:
    for number in count():
        async with open_case(Batching(max_events=3)) as case:
            within: list[Future] = []
            at = At(number, lambda: within.extend(case.add("b")))  # noqa: B023 - it is called in this round
            with at:
                without = case.add("a")
            async with asyncio.timeout(1.0):
                await asyncio.gather(*within, *without)
            assert sorted(case.transport.videos) == ["a", "b"][: 1 + len(within)]
        if not at.was_reached:
            break
    assert number > 10


async def close_while_a_thread_hands_in(number: int) -> str | None:
    """Close at the line with this number; the end of the event, or None if there are not so many lines."""
    loop = asyncio.get_running_loop()
    transport = Transport()

    def call_soon(dispatch: Callable[[], None]) -> None:
        if at.was_reached:
            raise RuntimeError("Event loop is closed")
        loop.call_soon_threadsafe(dispatch)

    batcher: Batcher[Future] = Batcher(Sender(transport, RequestIds()), Batching(), call_soon)
    at = At(number, lambda: asyncio.run_coroutine_threadsafe(batcher.close(5.0), loop).result(5.0))

    future: Future = loop.create_future()

    def add() -> "list[Future]":
        try:
            with at:
                batcher.add("a", "view", None, None, "", future)
        except ClientUnusable:
            return []
        return [future]

    futures = await asyncio.to_thread(add)
    await batcher.close(5.0)
    async with asyncio.timeout(5.0):
        receipts = await asyncio.gather(*futures)
    assert transport.videos == ["a"] * len(receipts)
    assert batcher.progress.buffered_events == 0
    if not at.was_reached:
        return None
    return "counted" if receipts else "refused"


async def test_a_client_that_is_closed_while_a_thread_hands_in_counts_its_event_or_refuses_it() -> None:
    ends = set()
    for number in count():
        if (end := await close_while_a_thread_hands_in(number)) is None:
            break
        ends.add(end)
    assert ends == {"refused", "counted"}
