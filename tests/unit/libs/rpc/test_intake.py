"""How many requests are received at once, and what ends those that do not arrive."""

import asyncio
from typing import Any

import grpc
import pytest

from libs.rpc.intake import Intake
from tally.contract.errors import InvalidRequest, Overloaded, Unavailable
from tests.support.virtual_time import in_virtual_time


class Call:
    """A call whose request arrives when the test says so."""

    def __init__(self) -> None:
        self.is_read = asyncio.Event()
        self.request: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def read(self) -> Any:
        self.is_read.set()
        return await self.request


async def receive(intake: Intake, calls: list[Call]) -> list[asyncio.Task[bytes]]:
    tasks = [asyncio.create_task(intake.receive(call.read)) for call in calls]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


@in_virtual_time
async def test_no_more_requests_are_read_than_there_are_slots_and_the_others_follow_in_their_order() -> None:
    intake, calls = Intake(2, 10), [Call() for _ in range(4)]
    tasks = await receive(intake, calls)
    assert [call.is_read.is_set() for call in calls] == [True, True, False, False]
    calls[1].request.set_result(b"second")
    assert await tasks[1] == b"second"
    await asyncio.wait_for(calls[2].is_read.wait(), 1)
    assert not calls[3].is_read.is_set()
    for call in calls:
        if not call.request.done():
            call.request.set_result(b"")
    await asyncio.gather(*tasks)
    more = [Call(), Call()]
    tasks = await receive(intake, more)
    assert all(call.is_read.is_set() for call in more)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@in_virtual_time
async def test_a_request_that_does_not_arrive_gives_its_slot_to_those_who_wait() -> None:
    intake, calls = Intake(1, 10), [Call(), Call()]
    slow, after = await receive(intake, calls)
    await asyncio.sleep(9)
    assert not slow.done()
    calls[1].request.set_result(b"here")
    with pytest.raises(Unavailable, match="did not arrive within 10 s"):
        await slow
    assert await after == b"here"


@in_virtual_time
async def test_a_slow_request_has_all_its_time_while_nobody_waits() -> None:
    intake, call = Intake(1, 10), Call()
    [task] = await receive(intake, [call])
    await asyncio.sleep(3600)
    call.request.set_result(b"late")
    assert await task == b"late"


@in_virtual_time
async def test_whoever_gets_no_slot_in_time_is_told_that_nothing_was_done() -> None:
    intake, calls = Intake(1, 10), [Call() for _ in range(4)]
    tasks = await receive(intake, calls)
    await asyncio.wait(tasks)
    ends = [type(task.exception()) for task in tasks]
    assert ends == [Unavailable, Unavailable, Overloaded, Overloaded]
    last = tasks[3].exception()
    assert isinstance(last, Overloaded)
    assert last.nothing_done
    free = Call()
    free.request.set_result(b"free")
    assert await intake.receive(free.read) == b"free"


@in_virtual_time
async def test_callers_who_go_take_no_slot_with_them() -> None:
    intake, calls = Intake(1, 10), [Call() for _ in range(3)]
    reading, waiting, other = await receive(intake, calls)
    waiting.cancel()
    await asyncio.sleep(0)
    reading.cancel()
    calls[2].request.set_result(b"other")
    assert await other == b"other"
    # The slot is handed to a caller who is gone before it wakes.
    first, second = Call(), Call()
    tasks = await receive(intake, [first, second])
    first.request.set_result(b"")
    await tasks[0]
    tasks[1].cancel()
    await asyncio.wait(tasks)
    last = Call()
    last.request.set_result(b"last")
    [task] = await receive(intake, [last])
    assert await task == b"last"


@in_virtual_time
async def test_a_call_without_a_request_is_invalid() -> None:
    call = Call()
    call.request.set_result(grpc.aio.EOF)
    with pytest.raises(InvalidRequest, match="must be sent"):
        await Intake(1, 10).receive(call.read)
