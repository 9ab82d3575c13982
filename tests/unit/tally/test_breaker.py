"""Calls that wait for the breaker, and are let through in the end. When it opens is tested with the contract."""

import asyncio

import pytest

from tally.client._delivery.breaker import WaitingBreaker
from tests.support.virtual_time import in_virtual_time


def make_breaker() -> WaitingBreaker:
    return WaitingBreaker(asyncio.get_running_loop().time, failures=3, reset_after_s=10.0)


async def call(breaker: WaitingBreaker, has_failed: bool | None) -> None:
    life = await breaker.enter()
    breaker.leave(life, has_failed=has_failed)


async def open_it(breaker: WaitingBreaker) -> None:
    for _ in range(3):
        await call(breaker, has_failed=True)


def is_let_through(breaker: WaitingBreaker) -> "asyncio.Task[int]":
    return asyncio.create_task(breaker.enter())


@in_virtual_time
async def test_a_call_waits_until_it_may_be_the_probe_and_again_if_the_probe_fails() -> None:
    breaker = make_breaker()
    began = asyncio.get_running_loop().time()
    await open_it(breaker)
    await call(breaker, has_failed=True)
    await call(breaker, has_failed=False)
    await call(breaker, has_failed=False)
    assert asyncio.get_running_loop().time() - began == pytest.approx(20.0)


@in_virtual_time
async def test_the_call_that_opens_it_is_told_so_and_no_other() -> None:
    breaker = make_breaker()
    begun = [await breaker.enter() for _ in range(5)]
    assert [breaker.leave(each, has_failed=True) for each in begun] == [False, False, True, False, False]


@in_virtual_time
async def test_half_open_lets_one_in_and_the_others_wait_for_its_end() -> None:
    breaker = make_breaker()
    await open_it(breaker)
    waiting = [is_let_through(breaker) for _ in range(5)]
    await asyncio.sleep(11)
    (probe,) = [task for task in waiting if task.done()]
    breaker.leave(probe.result(), has_failed=False)
    await asyncio.sleep(0.001)
    assert all(task.done() for task in waiting)


@in_virtual_time
async def test_a_cancelled_call_is_neither_and_a_cancelled_probe_gives_its_place_away() -> None:
    breaker = make_breaker()
    for _ in range(10):
        await call(breaker, has_failed=None)
    await open_it(breaker)
    probe, other = is_let_through(breaker), is_let_through(breaker)
    await asyncio.sleep(11)
    assert probe.done()
    assert not other.done()
    breaker.leave(probe.result(), has_failed=None)
    await asyncio.sleep(0.001)
    assert other.done()


@in_virtual_time
async def test_who_is_cancelled_while_waiting_takes_no_place() -> None:
    breaker = make_breaker()
    await open_it(breaker)
    waiting = is_let_through(breaker)
    await asyncio.sleep(5)
    waiting.cancel()
    await asyncio.sleep(6)
    await asyncio.wait_for(breaker.enter(), 1)


@in_virtual_time
async def test_after_the_end_nobody_waits() -> None:
    breaker = make_breaker()
    await open_it(breaker)
    waiting = is_let_through(breaker)
    await asyncio.sleep(0)
    breaker.give_way()
    await asyncio.wait_for(waiting, 0.1)
