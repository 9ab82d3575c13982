import asyncio

import pytest

from tally.client.breaker import Breaker
from tests.support.virtual_time import in_virtual_time


def make_breaker() -> Breaker:
    return Breaker(asyncio.get_running_loop().time, failures=3, reset_after_s=10.0)


async def call(breaker: Breaker, has_failed: bool | None) -> None:
    life = await breaker.enter()
    breaker.leave(life, has_failed=has_failed)


async def open_it(breaker: Breaker) -> None:
    for _ in range(3):
        await call(breaker, has_failed=True)


def is_let_through(breaker: Breaker) -> "asyncio.Task[int]":
    return asyncio.create_task(breaker.enter())


@in_virtual_time
async def test_failures_in_a_row_open_it_and_a_success_between_them_does_not() -> None:
    breaker = make_breaker()
    for has_failed in (True, True, False, True, True):
        await call(breaker, has_failed)
    began = asyncio.get_running_loop().time()
    await call(breaker, has_failed=True)
    await call(breaker, has_failed=False)
    assert asyncio.get_running_loop().time() - began == pytest.approx(10.0)


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
async def test_a_probe_that_fails_opens_it_again() -> None:
    breaker = make_breaker()
    await open_it(breaker)
    began = asyncio.get_running_loop().time()
    await call(breaker, has_failed=True)
    await call(breaker, has_failed=False)
    assert asyncio.get_running_loop().time() - began == pytest.approx(20.0)


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
async def test_a_call_that_began_before_it_opened_says_nothing_about_now() -> None:
    breaker = make_breaker()
    old = await breaker.enter()
    await open_it(breaker)
    breaker.leave(old, has_failed=False)
    began = asyncio.get_running_loop().time()
    await breaker.enter()
    assert asyncio.get_running_loop().time() - began == pytest.approx(10.0)


@in_virtual_time
async def test_after_the_end_nobody_waits() -> None:
    breaker = make_breaker()
    await open_it(breaker)
    waiting = is_let_through(breaker)
    await asyncio.sleep(0)
    breaker.give_way()
    await asyncio.wait_for(waiting, 0.1)
