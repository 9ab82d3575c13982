"""How entries of many requests share calls to one shard."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from libs.domain.entry import Outcome
from services.partitioner.routing.remote import RemoteTransport
from services.partitioner.settings import SenderSettings
from tally.common.v1.common_pb2 import ClusterIdentity
from tally.contract.breaker import Breaker
from tally.contract.errors import DeadlineExceeded, Overloaded, TallyError, Unavailable
from tally.counting.v1.counting_pb2 import (
    OUTCOME_DUPLICATE,
    OUTCOME_JOURNALED,
    AppendRequest,
    AppendResponse,
)
from tests.support.clock import Clock
from tests.unit.services.partitioner.routing.shards import entry

SETTINGS = SenderSettings(
    max_call_entries=3, max_call_bytes=100, max_call_events=3, max_waiting_bytes=1000, breaker_failures=2
)
IDENTITY = ClusterIdentity(cluster_id="a cluster", epoch=2, partition_count=8)
SOON = 1010.0


class Shard:
    """Holds each call until the test lets it end."""

    def __init__(self) -> None:
        self.calls: list[tuple[AppendRequest, float]] = []
        self.answer: Callable[[AppendRequest], AppendResponse] = lambda request: AppendResponse(
            outcomes=[OUTCOME_JOURNALED] * len(request.entries)
        )
        self.error: TallyError | None = None
        self.free = asyncio.Event()

    async def append(self, request: AppendRequest, timeout_s: float) -> AppendResponse:
        self.calls.append((request, timeout_s))
        await self.free.wait()
        if self.error:
            raise self.error
        return self.answer(request)

    @property
    def partitions(self) -> list[list[int]]:
        return [[each.partition for each in request.entries] for request, _ in self.calls]


@asynccontextmanager
async def sending(shard: Shard, at_once: int = 1) -> AsyncIterator[RemoteTransport]:
    clock = Clock()
    breaker = Breaker(
        "shard",
        failures=2,
        reset_after_s=1,
        is_failure=lambda error: isinstance(error, Unavailable | DeadlineExceeded),
        now=clock.monotonic,
    )
    transport = RemoteTransport("shard", IDENTITY, shard.append, breaker, SETTINGS, clock)
    loops = [asyncio.create_task(transport.run()) for _ in range(at_once)]
    try:
        yield transport
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_an_entry_that_finds_no_call_under_way_leaves_at_once_and_others_share_the_next() -> None:
    shard = Shard()
    async with sending(shard) as transport:
        outcomes = transport.send([entry(0)], SOON)
        await settle()
        for partition in (1, 2, 3, 4):
            outcomes += transport.send([entry(partition)], SOON)
        await settle()
        assert shard.partitions == [[0]]
        shard.free.set()
        assert await asyncio.gather(*outcomes) == [Outcome.JOURNALED] * 5
    assert shard.partitions == [[0], [1, 2, 3], [4]]
    assert all(request.cluster == IDENTITY for request, _ in shard.calls)


async def test_a_call_is_bounded_in_bytes_and_a_large_entry_goes_alone() -> None:
    shard = Shard()
    shard.free.set()
    async with sending(shard) as transport:
        sizes = [60, 40, 1, 500, 10]
        await asyncio.gather(*transport.send([entry(n, size) for n, size in enumerate(sizes)], SOON))
    assert shard.partitions == [[0, 1], [2], [3], [4]]


async def test_a_call_is_bounded_in_events() -> None:
    shard = Shard()
    shard.free.set()
    async with sending(shard) as transport:
        await asyncio.gather(*transport.send([entry(n, 1, events=2 * n + 1) for n in range(3)], SOON))
    assert shard.partitions == [[0], [1], [2]]


async def test_each_gets_its_own_outcome() -> None:
    shard = Shard()
    shard.free.set()
    shard.answer = lambda request: AppendResponse(
        outcomes=[OUTCOME_DUPLICATE if each.partition % 2 else OUTCOME_JOURNALED for each in request.entries]
    )
    async with sending(shard) as transport:
        outcomes = await asyncio.gather(*transport.send([entry(n) for n in range(4)], SOON))
    assert outcomes == [Outcome.JOURNALED, Outcome.DUPLICATE] * 2


async def test_beyond_what_may_wait_all_of_a_send_is_refused_until_there_is_room() -> None:
    shard = Shard()
    async with sending(shard) as transport:
        waiting = transport.send([entry(0, 900)], SOON)  # nobody has taken it yet
        with pytest.raises(Overloaded, match="send the same request again"):
            transport.send([entry(1, 50), entry(2, 51)], SOON)
        shard.free.set()
        await asyncio.gather(*waiting)
        await asyncio.gather(*transport.send([entry(3, 1000)], SOON))
    assert shard.partitions == [[0], [3]]


async def test_whoever_stopped_waiting_is_not_sent_and_takes_no_room() -> None:
    shard = Shard()
    async with sending(shard) as transport:
        first = transport.send([entry(0)], SOON)
        await settle()
        gone, kept = transport.send([entry(1, 500), entry(2, 500)], SOON)
        gone.cancel()
        shard.free.set()
        await asyncio.gather(*first, kept)
        await asyncio.gather(*transport.send([entry(3, 1000)], SOON))
    assert shard.partitions == [[0], [2], [3]]


async def test_a_call_that_fails_is_told_to_all_who_shared_it_and_to_no_other() -> None:
    shard = Shard()
    shard.free.set()
    shard.error = Unavailable("away")
    async with sending(shard) as transport:
        outcomes = await asyncio.gather(*transport.send([entry(0), entry(1)], SOON), return_exceptions=True)
        assert [str(outcome) for outcome in outcomes] == ["away", "away"]
        shard.error = None
        assert await asyncio.gather(*transport.send([entry(2)], SOON)) == [Outcome.JOURNALED]


@pytest.mark.parametrize("error", [Unavailable("away"), DeadlineExceeded("late")], ids=str)
async def test_after_repeated_failures_the_shard_is_left_alone(error: TallyError) -> None:
    shard = Shard()
    shard.free.set()
    shard.error = error
    async with sending(shard) as transport:
        for _ in range(4):
            await asyncio.gather(*transport.send([entry(0)], SOON), return_exceptions=True)
        (outcome,) = await asyncio.gather(*transport.send([entry(0)], SOON), return_exceptions=True)
    assert isinstance(outcome, Unavailable)
    assert len(shard.calls) == 2


async def test_callers_in_a_hurry_do_not_close_the_way_for_the_others() -> None:
    shard = Shard()
    shard.free.set()
    shard.error = DeadlineExceeded("late")
    in_a_hurry = 1000 + SETTINGS.attempt_timeout_seconds - 0.1
    async with sending(shard) as transport:
        for _ in range(4):
            await asyncio.gather(*transport.send([entry(0)], in_a_hurry), return_exceptions=True)
        shard.error = None
        assert await asyncio.gather(*transport.send([entry(0)], SOON)) == [Outcome.JOURNALED]
    assert len(shard.calls) == 5


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_an_answer_for_another_number_of_entries_acknowledges_none(count: int) -> None:
    shard = Shard()
    shard.free.set()
    shard.answer = lambda _: AppendResponse(outcomes=[OUTCOME_JOURNALED] * count)
    async with sending(shard) as transport:
        outcomes = await asyncio.gather(*transport.send([entry(0), entry(1)], SOON), return_exceptions=True)
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes)


@pytest.mark.parametrize("outcome", [0, 99])
async def test_an_answer_with_an_outcome_that_nobody_knows_acknowledges_none(outcome: Any) -> None:
    shard = Shard()
    shard.free.set()
    shard.answer = lambda _: AppendResponse(outcomes=[OUTCOME_JOURNALED, outcome])
    async with sending(shard) as transport:
        outcomes = await asyncio.gather(*transport.send([entry(0), entry(1)], SOON), return_exceptions=True)
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes)


@pytest.mark.parametrize("error", [AttributeError("outcomes"), asyncio.CancelledError()], ids=repr)
async def test_whatever_a_call_raises_the_next_is_made_all_the_same(error: BaseException) -> None:
    """What does not parse is an AttributeError somewhere; and gRPC may cancel a call by itself."""
    shard = Shard()
    shard.free.set()

    def fail(_: AppendRequest) -> AppendResponse:
        raise error

    well, shard.answer = shard.answer, fail
    async with sending(shard) as transport:
        (outcome,) = await asyncio.gather(*transport.send([entry(0)], SOON), return_exceptions=True)
        assert isinstance(outcome, Unavailable)
        shard.answer = well
        assert await asyncio.gather(*transport.send([entry(1)], SOON)) == [Outcome.JOURNALED]


async def test_a_call_has_as_long_as_somebody_waits_for_it_but_no_longer_than_an_attempt() -> None:
    shard = Shard()
    shard.free.set()
    async with sending(shard) as transport:
        for deadline in (1000.5, 1100.0, 900.0):
            await asyncio.gather(*transport.send([entry(0)], deadline))
        outcomes: list[asyncio.Future[Outcome]] = []
        for deadline in (1000.2, 1000.9):
            outcomes += transport.send([entry(0)], deadline)
        await asyncio.gather(*outcomes)
    assert [timeout_s for _, timeout_s in shard.calls] == pytest.approx([0.5, 8.0, 0.001, 0.9])


async def test_several_calls_are_under_way_when_they_may_be() -> None:
    shard = Shard()
    async with sending(shard, at_once=2) as transport:
        outcomes = transport.send([entry(n) for n in range(7)], SOON)
        await settle()
        assert shard.partitions == [[0, 1, 2], [3, 4, 5]]
        shard.free.set()
        await asyncio.gather(*outcomes)


async def test_when_the_sender_ends_whoever_waits_may_go_to_another() -> None:
    shard = Shard()
    async with sending(shard) as transport:
        outcomes = transport.send([entry(0)], SOON)
        await settle()
    assert [type(outcome.exception()) for outcome in outcomes] == [Unavailable]


async def test_a_shard_that_is_given_up_keeps_nobody_waiting_and_nothing_sent() -> None:
    shard = Shard()
    async with sending(shard) as transport:
        outcomes = transport.send([entry(n) for n in range(5)], SOON)
        await settle()
        assert shard.partitions == [[0, 1, 2]]
        transport.give_up(Unavailable("silent"))
        answers = await asyncio.gather(*outcomes, return_exceptions=True)
        assert [type(answer) for answer in answers] == [Unavailable] * 5
        # The call that was under way holds up nobody who comes later.
        later = transport.send([entry(6, 1000)], SOON)
        await settle()
        shard.free.set()
        assert await asyncio.gather(*later) == [Outcome.JOURNALED]
    assert shard.partitions == [[0, 1, 2], [6]]


async def test_a_sender_is_idle_when_nobody_waits_any_more() -> None:
    shard = Shard()
    async with sending(shard) as transport:
        await transport.until_idle()
        outcomes = transport.send([entry(0)], SOON)
        idle = asyncio.create_task(transport.until_idle())
        await settle()
        assert not idle.done()
        shard.free.set()
        await asyncio.gather(*outcomes)
        async with asyncio.timeout(10):
            await idle


class InFrame:
    """In a frame of a call, as its request is."""


async def test_a_failed_call_is_not_kept_by_its_outcomes() -> None:
    shard, held = Shard(), []

    async def fail(request: AppendRequest, timeout_s: float) -> AppendResponse:  # noqa: ARG001 - Append's
        in_frame = InFrame()
        held.append(weakref.ref(in_frame))
        raise Unavailable("away")

    shard.append = fail  # type: ignore[method-assign]  # instead of its own
    async with sending(shard) as transport:
        gc.collect()
        gc.disable()
        try:
            outcomes = transport.send([entry(1), entry(2)], SOON)
            await asyncio.wait(outcomes)
            assert held
            assert [each() for each in held] == [None] * len(held)
        finally:
            gc.enable()
