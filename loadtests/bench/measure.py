"""The two ways to put a load on a store: as fast as it goes, and at a given rate."""

import asyncio
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from loadtests.bench.contender import Store
from loadtests.bench.events import Cursor, Request
from loadtests.demo.side_by_side import run_side_by_side

_MOST_UNDER_WAY = 20_000


class TooSlow(Exception):
    """The store does not keep up with a rate that it should."""


@dataclass(slots=True)
class Sent:
    """What was acknowledged, and how long each request took, in seconds."""

    events: int = 0
    seconds: float = 0.0
    latencies_s: list[float] = field(default_factory=list)

    @property
    def events_per_s(self) -> float:
        return self.events / self.seconds

    @property
    def requests_per_s(self) -> float:
        return len(self.latencies_s) / self.seconds


async def send_closed(store: Store, requests: Iterator[Request], in_flight: int, seconds: float) -> Sent:
    """Closed loop: each of `in_flight` callers sends its next request when the last is acknowledged.

    Ends when the requests are through, or begins none after so many seconds.
    """
    sent = Sent()
    started = time.perf_counter()
    end = started + seconds

    async def call() -> None:
        while (begun := time.perf_counter()) < end:
            request = next(requests, None)
            if request is None:
                return
            await store.send(request)
            sent.latencies_s.append(time.perf_counter() - begun)
            sent.events += len(request)

    await run_side_by_side(call, in_flight)
    sent.seconds = time.perf_counter() - started
    return sent


async def send_open(
    store: Store, cursor: Cursor, requests_per_s: float, seconds: float, random: np.random.Generator
) -> Sent:
    """Open loop: requests come at random (a Poisson process), whether or not others are answered.

    A latency runs from the moment at which the request was due, so a stall is seen by all who had to wait; it
    contains up to a millisecond of the timer. Raises TooSlow when far too many are under way.
    """
    sent = Sent()
    due = np.cumsum(random.exponential(1 / requests_per_s, math.ceil(requests_per_s * seconds)))
    started = time.perf_counter()
    under_way = 0

    async def call(request: Request, due_at: float) -> None:
        nonlocal under_way
        await store.send(request)
        under_way -= 1
        sent.latencies_s.append(time.perf_counter() - due_at)
        sent.events += len(request)

    async with asyncio.TaskGroup() as tasks:
        for due_at in (due + started).tolist():
            while (wait_s := due_at - time.perf_counter()) > 0:  # noqa: ASYNC110 - it waits for a time
                await asyncio.sleep(math.ceil(wait_s * 1000) / 1000)
            if under_way >= _MOST_UNDER_WAY:
                raise TooSlow(f"{under_way:,} requests wait at {requests_per_s:,.0f} a second")
            under_way += 1
            tasks.create_task(call(cursor.take(), due_at))
    sent.seconds = time.perf_counter() - started
    return sent
