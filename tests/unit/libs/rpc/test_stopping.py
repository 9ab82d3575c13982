"""Waits that end when the server stops."""

import asyncio
import time

import pytest

from libs.rpc.stopping import Stopped, Stopping


async def test_what_comes_before_the_stop_is_handed_on() -> None:
    async def arrives() -> str:
        return "a request"

    assert await Stopping().unless_stopped(arrives()) == "a request"


async def test_all_waits_under_way_end_at_once() -> None:
    stopping = Stopping()
    waits = [asyncio.create_task(stopping.unless_stopped(asyncio.Event().wait())) for _ in range(3)]
    await asyncio.sleep(0)
    stopping.begin()
    outcomes = await asyncio.gather(*waits, return_exceptions=True)
    assert all(isinstance(outcome, Stopped) for outcome in outcomes)


async def test_a_wait_that_has_just_come_to_its_own_end_does_not_keep_the_others() -> None:
    stopping, loop = Stopping(), asyncio.get_running_loop()
    expiring = asyncio.create_task(stopping.unless_stopped(asyncio.Event().wait(), loop.time() + 0.01))
    waiting = asyncio.create_task(stopping.unless_stopped(asyncio.Event().wait()))
    await asyncio.sleep(0)
    # Behind the timer of the wait in the same turn of the loop, and so before the task that it wakes.
    begun = asyncio.Event()

    def begin() -> None:
        stopping.begin()
        begun.set()

    loop.call_at(loop.time() + 0.02, begin)
    time.sleep(0.05)  # noqa: ASYNC251 - so that both timers are due at once
    outcomes = await asyncio.gather(expiring, waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Stopped, Stopped]
    assert begun.is_set()


async def test_a_wait_that_begins_after_the_stop_ends_too() -> None:
    stopping = Stopping()
    stopping.begin()
    with pytest.raises(Stopped):
        await stopping.unless_stopped(asyncio.Event().wait())


async def test_a_time_out_of_the_wait_itself_is_not_taken_for_the_stop() -> None:
    async def times_out() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await Stopping().unless_stopped(times_out())


async def test_a_cancelled_wait_is_cancelled() -> None:
    wait = asyncio.create_task(Stopping().unless_stopped(asyncio.Event().wait()))
    await asyncio.sleep(0)
    wait.cancel()
    with pytest.raises(asyncio.CancelledError):
        await wait


async def test_a_wait_with_an_end_ends_there() -> None:
    now = asyncio.get_running_loop().time()
    with pytest.raises(Stopped):
        await Stopping().unless_stopped(asyncio.Event().wait(), now + 0.01)
