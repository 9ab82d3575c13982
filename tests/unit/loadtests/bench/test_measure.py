"""Closed and open loop, over a store that is as slow as a test wants."""

import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from loadtests.bench import measure
from loadtests.bench.contender import Store
from loadtests.bench.events import ZIPF, Cursor, Request, make_events
from loadtests.bench.measure import TooSlow, send_closed, send_open
from loadtests.bench.oracle import Counts

EVENTS = make_events(1_000, ZIPF, seed=1)


class Slow(Store):
    """Takes one request after the other, each for so many seconds."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds
        self._one = asyncio.Lock()
        self.under_way = self.most_under_way = 0

    async def send(self, request: Request) -> None:  # noqa: ARG002 - it counts nothing
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        async with self._one:
            await asyncio.sleep(self._seconds)
        self.under_way -= 1

    async def find_fault(self, counts_are_exact: Callable[[Counts], str | None]) -> str | None:
        return counts_are_exact(Counts([], [], []))


async def test_a_closed_loop_sends_everything_with_so_many_in_flight() -> None:
    store, cursor = Slow(), Cursor(EVENTS, 100)
    sent = await send_closed(store, cursor.take_up_to(1_000), 4, seconds=60.0)
    assert (sent.events, len(sent.latencies_s), store.most_under_way) == (1_000, 10, 4)
    assert sent.events_per_s == pytest.approx(100 * sent.requests_per_s)


async def test_a_closed_loop_ends_in_time_and_what_was_taken_is_acknowledged() -> None:
    store, cursor = Slow(0.01), Cursor(EVENTS, 1)
    sent = await send_closed(store, cursor.take_up_to(1_000_000), 4, seconds=0.1)
    assert store.under_way == 0
    assert sent.events == cursor.taken < 1_000


async def test_an_open_loop_lets_nobody_wait_for_the_answers_of_others() -> None:
    store, cursor = Slow(0.01), Cursor(EVENTS, 10)
    sent = await send_open(store, cursor, 1_000.0, 0.03, np.random.default_rng(1))
    assert len(sent.latencies_s) == 30
    assert sent.events == cursor.taken == 300
    # The last was due after 0.03 s or so, and is the thirtieth of those that take 0.01 s each.
    assert max(sent.latencies_s) > 0.2
    assert store.most_under_way > 10


async def test_an_open_loop_gives_up_a_store_that_does_not_keep_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_MOST_UNDER_WAY", 5)
    store = Slow(60.0)
    with pytest.raises(ExceptionGroup) as failed:
        await send_open(store, Cursor(EVENTS, 10), 1_000.0, 1.0, np.random.default_rng(1))
    assert failed.group_contains(TooSlow, match="5 requests wait")
