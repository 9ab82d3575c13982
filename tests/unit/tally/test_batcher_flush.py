"""What `flush` waits for, and what it tells."""

import asyncio

import pytest

from tally.client import Batching, InvalidRequest, OutcomeUnknown
from tally.client._buffering.buffer import Awaited
from tests.support.virtual_time import in_virtual_time
from tests.unit.tally.batching import open_case
from tests.unit.tally.transport import fail, invalid, out_of_range, unanswered


@in_virtual_time
async def test_flush_waits_for_what_was_handed_in_before_and_for_no_more() -> None:
    async with open_case(Batching(max_in_flight=1), answer_s=1.0) as case:
        loop = asyncio.get_running_loop()
        before = case.add("a", "b")
        flushing = asyncio.create_task(case.batcher.flush())
        await asyncio.sleep(0.5)
        (after,) = case.add("c")
        began = loop.time()
        await flushing
        assert loop.time() - began == pytest.approx(0.5)
        assert all(future.done() for future in before)
        assert not after.done()


@in_virtual_time
async def test_flush_raises_what_went_wrong_and_an_empty_one_returns() -> None:
    async with open_case(Batching(give_up_after_s=10.0)) as case:
        await case.batcher.flush()
        case.transport.turns.extend([fail(unanswered())] * 1000)
        (future,) = case.add("a")
        with pytest.raises(OutcomeUnknown) as raised:
            await case.batcher.flush()
        assert raised.value.batches[0].payload == case.transport.sent[0].payload
        assert isinstance(future.exception(), OutcomeUnknown)
        assert case.batcher.progress.unknown_events == 1


@in_virtual_time
async def test_flush_tells_once_of_what_had_failed_before_it() -> None:
    async with open_case(Batching(max_events=2)) as case:
        case.transport.turns.extend([fail(invalid("columns")), fail(out_of_range(1, ["columns"]))])
        case.add("a", "b", "c")
        await asyncio.sleep(10)
        with pytest.raises(InvalidRequest) as raised:
            await case.batcher.flush()
        assert raised.value.__notes__ == [
            "Without a receipt since the last flush: 3 events, of those whose callers do not wait."
        ]
        await case.batcher.flush()
        case.add("d")
        await case.batcher.flush()


@in_virtual_time
async def test_every_flush_tells_of_what_fails_while_it_waits() -> None:
    async with open_case() as case:
        case.transport.turns.append(fail(invalid("columns")))
        case.add("bad")
        ends = await asyncio.gather(*(case.batcher.flush() for _ in range(3)), return_exceptions=True)
        assert [type(end) for end in ends] == [InvalidRequest] * 3


@in_virtual_time
async def test_flush_does_not_repeat_what_a_caller_who_waits_is_told() -> None:
    async with open_case() as case:
        case.transport.turns.append(fail(invalid("columns.value[0]")))
        told = case.add_one("bad", Awaited())
        case.add("good")
        await case.batcher.flush()
        assert isinstance(told.exception(), InvalidRequest)
        case.transport.turns.append(fail(invalid("columns")))
        case.add_one("bad", Awaited())
        case.add("bad too")
        with pytest.raises(InvalidRequest) as raised:
            await case.batcher.flush()
        assert raised.value.__notes__ == [
            "Without a receipt since the last flush: 1 event, of those whose callers do not wait."
        ]


@pytest.mark.exact
@in_virtual_time
async def test_flush_tells_of_an_event_whose_caller_has_gone() -> None:
    async with open_case(Batching(give_up_after_s=10.0)) as case:
        case.transport.turns.extend([fail(unanswered())] * 1000)
        gone, cancelled = Awaited(), Awaited()
        case.add_one("whose caller waits no longer", gone)
        case.add_one("whose caller is just going", cancelled).cancel()
        await asyncio.sleep(1.0)
        gone.is_waiting = False
        with pytest.raises(OutcomeUnknown) as raised:
            await case.batcher.flush()
        assert raised.value.__notes__ == [
            "Without a receipt since the last flush: 2 events, of those whose callers do not wait."
        ]


@in_virtual_time
async def test_flush_tells_of_the_events_that_were_refused() -> None:
    async with open_case() as case:
        case.transport.turns.append(fail(invalid("columns.value[0]")))
        case.add("bad", "good")
        with pytest.raises(InvalidRequest):
            await case.batcher.flush()
        assert case.transport.sent[-1].videos == ["good"]
