"""When a retry may go that waits for its turn. Time is virtual. How many there may be is tested with the contract."""

import asyncio

import pytest

from tally.client._delivery.waiting_budget import WaitingBudget
from tests.support.virtual_time import in_virtual_time


def now() -> float:
    return asyncio.get_running_loop().time()


async def open_empty(burst: int = 3) -> WaitingBudget:
    """A budget from which all was taken."""
    budget = WaitingBudget(now, share=0.25, per_second=0.5, burst=burst)
    began = now()
    for _ in range(burst):
        await budget.take()
    assert now() == began
    return budget


@in_virtual_time
async def test_what_is_saved_goes_at_once_and_then_a_trickle() -> None:
    budget, began = await open_empty(), now()
    for count in (1, 2, 3):
        await budget.take()
        assert now() - began == pytest.approx(2.0 * count, abs=0.001)


@in_virtual_time
async def test_requests_earn_a_share_of_a_retry_for_those_who_wait() -> None:
    budget, began = await open_empty(), now()
    waiting = asyncio.create_task(budget.take())
    await asyncio.sleep(0)
    for _ in range(4):
        budget.earn()
    await waiting
    assert now() == began


@in_virtual_time
async def test_tokens_are_given_in_the_order_in_which_they_were_asked_for() -> None:
    budget = await open_empty()
    order: list[int] = []

    async def take(number: int) -> None:
        await budget.take()
        order.append(number)

    waiting = [asyncio.create_task(take(number)) for number in range(5)]
    await asyncio.sleep(1)
    budget.give_back()
    await asyncio.gather(*waiting)
    assert order == [0, 1, 2, 3, 4]


@in_virtual_time
async def test_who_waits_no_longer_has_taken_nothing() -> None:
    budget, began = await open_empty(), now()
    waiting = [asyncio.create_task(budget.take()) for _ in range(100)]
    await asyncio.sleep(1)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await budget.take()
    assert now() - began == pytest.approx(2.0, abs=0.001)


@in_virtual_time
async def test_after_the_end_nobody_waits() -> None:
    budget, began = await open_empty(), now()
    waiting = [asyncio.create_task(budget.take()) for _ in range(10)]
    await asyncio.sleep(0)
    budget.give_way()
    await asyncio.gather(*waiting)
    assert now() == began
