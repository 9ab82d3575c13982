"""At the end every event has one: counted, unknown, or never sent."""

import asyncio

import pytest

from tally.client import Batch, Batching, ClientUnusable, InvalidRequest, NotSent, OutcomeUnknown, Receipt
from tally.client._buffering.batcher import Batcher
from tally.client._delivery.sending import Sender
from tally.client.request_id import RequestIds
from tests.support.virtual_time import in_virtual_time
from tests.unit.tally.batching import Case, Future, names, open_case
from tests.unit.tally.transport import Transport, fail, invalid, never, receipt_of


@in_virtual_time
async def test_closing_tells_of_what_had_failed_before_it() -> None:
    async with open_case() as case:
        case.transport.turns.append(fail(invalid("columns.value[1]")))
        case.add("good", "bad")
        await asyncio.sleep(10)
        with pytest.raises(InvalidRequest):
            await case.batcher.close(5.0)
        await case.batcher.close(5.0)


@in_virtual_time
async def test_what_closing_gives_up_comes_before_what_had_failed() -> None:
    async with open_case() as case:
        case.transport.turns.extend([fail(invalid("columns")), never])
        case.add("bad")
        await asyncio.sleep(10)
        case.add("unknown")
        with pytest.raises(OutcomeUnknown) as raised:
            await case.batcher.close(5.0)
        assert isinstance(raised.value.__cause__, InvalidRequest)
        await case.batcher.close(5.0)


def test_the_end_of_the_loop_is_the_end_of_every_event() -> None:
    futures: list[Future] = []

    async def leave_open() -> None:
        began = asyncio.Event()

        async def begin(batch: Batch) -> Receipt:
            began.set()
            return await never(batch)

        loop = asyncio.get_running_loop()
        transport = Transport()
        transport.turns.extend([begin, *[never] * 10])
        batching = Batching(max_events=1, max_in_flight=1)
        sender = Sender(transport, RequestIds())
        batcher: Batcher[Future] = Batcher(sender, batching, loop.call_soon)
        await batcher.guard()
        case = Case(batcher, transport)
        futures.extend(case.add("a", "b", "c"))
        await began.wait()
        futures.extend(case.add("d"))

    asyncio.run(leave_open())
    errors = [future.exception() for future in futures]
    assert isinstance(errors[0], OutcomeUnknown)
    assert all(isinstance(error, NotSent | OutcomeUnknown) for error in errors)
    assert isinstance(errors[-1], NotSent)


@pytest.mark.exact
@in_virtual_time
async def test_closing_in_the_middle_declares_exactly_the_unsent_and_the_unknown() -> None:
    loop = asyncio.get_running_loop()
    transport = Transport(answer_s=0.1)
    sender = Sender(transport, RequestIds())
    batching = Batching(max_events=2, max_in_flight=2)
    batcher: Batcher[Future] = Batcher(sender, batching, loop.call_soon)
    case = Case(batcher, transport)
    counted = case.add("a", "b")
    await batcher.flush()
    transport.turns.extend([never, never])
    unknown = case.add("c", "d", "e", "f")
    unsent = case.add("g", "h", "i")
    began = loop.time()
    with pytest.raises(OutcomeUnknown, match=r"4 events had an answer.* 3 more were never sent") as raised:
        await batcher.close(5.0)
    assert loop.time() - began == pytest.approx(5.0)
    assert [len(batch.columns) for batch in raised.value.batches] == [2, 2]
    assert {batch.payload for batch in raised.value.batches} == {s.payload for s in transport.sent[1:]}
    assert all(future.exception() is None for future in counted)
    assert all(isinstance(future.exception(), OutcomeUnknown) for future in unknown)
    assert all(isinstance(future.exception(), NotSent) for future in unsent)
    assert transport.videos == ["a", "b", "c", "d", "e", "f"]
    progress = batcher.progress
    assert (progress.counted_events, progress.unknown_events, progress.unsent_events) == (2, 4, 3)
    assert (progress.buffered_events, progress.in_flight_requests) == (0, 0)


@in_virtual_time
async def test_closing_sends_what_was_handed_in_and_takes_no_more() -> None:
    async with open_case(Batching(max_events=2, max_in_flight=1)) as case:
        futures = case.add(*names(7))
        await case.batcher.close(5.0)
        assert all(future.result() for future in futures)
        with pytest.raises(ClientUnusable):
            case.add("late")
        assert case.transport.videos == names(7)


@in_virtual_time
async def test_closing_tells_those_who_wait_for_room() -> None:
    async with open_case(Batching(max_buffered_events=1), answer_s=1.0) as case:
        case.add("a")
        room = asyncio.create_task(case.batcher.wait_for_room())
        await asyncio.sleep(0.1)
        closing = asyncio.create_task(case.batcher.close(5.0))
        await asyncio.wait_for(room, 0.1)
        assert not case.batcher.is_full
        await closing


@in_virtual_time
async def test_a_closing_that_is_cancelled_still_declares_everything() -> None:
    async with open_case() as case:
        case.transport.turns.append(never)
        (future,) = case.add("a")
        closing = asyncio.create_task(case.batcher.close(60.0))
        await asyncio.sleep(1)
        closing.cancel()
        await asyncio.wait([closing])
        assert isinstance(future.exception(), OutcomeUnknown)


@in_virtual_time
async def test_a_request_that_is_given_up_before_its_first_step_is_declared_unsent() -> None:
    async def answer_and_cut_off(batch: Batch) -> Receipt:
        closing.cancel()  # it goes on before the next request does, which is dispatched after this answer
        return receipt_of(batch)

    async with open_case(Batching(max_events=1, max_in_flight=1)) as case:
        case.transport.turns.append(answer_and_cut_off)
        first, second = case.add("a", "b")
        closing = asyncio.create_task(case.batcher.close(60.0))
        flushing = asyncio.create_task(case.batcher.flush())
        await asyncio.wait([closing, flushing])
        assert first.exception() is None
        assert isinstance(second.exception(), NotSent)
        assert isinstance(flushing.exception(), NotSent)
        assert case.transport.videos == ["a"]
