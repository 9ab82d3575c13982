"""Sending the events: a few requests in flight, each timed."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from loadtests.demo.side_by_side import run_side_by_side
from tally.client import Client, Columns

IN_FLIGHT = 4
_TIMEOUT_S = 60.0
"""Of one request with its retries: a shard that is behind with its flushes makes callers wait."""


@dataclass(slots=True)
class Replay:
    """What the service acknowledged, and how long that took."""

    accepted_count: int = 0
    duplicate_count: int = 0
    seconds: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    """of each request, from the call to its acknowledgement, waits that the service asked for included"""

    @property
    def event_count(self) -> int:
        """Every event has one acknowledgement; a duplicate is one whose first attempt had no answer."""
        return self.accepted_count + self.duplicate_count

    def latency_ms(self, percent: float) -> float:
        """The time within which so many percent of the requests were acknowledged; 100 is the longest."""
        return float(np.percentile(self.latencies_s, percent)) * 1000


async def replay(client: Client, pieces: Iterator[Columns], on_events: Callable[[int], None]) -> Replay:
    """Send each piece as one request; `on_events` is told how many events were acknowledged.

    Raises TallyError: the client has then tried the request for a minute, under one id.
    """
    done = Replay()

    async def send() -> None:
        for columns in pieces:  # one iterator for all: each takes the next piece when it is free
            started = time.perf_counter()
            receipt = await client.process_many(columns, timeout=_TIMEOUT_S)
            done.latencies_s.append(time.perf_counter() - started)
            done.accepted_count += receipt.accepted_count
            done.duplicate_count += receipt.duplicate_count
            on_events(len(columns))

    started = time.perf_counter()
    await run_side_by_side(send, IN_FLIGHT)
    done.seconds = time.perf_counter() - started
    return done


async def wait_for_flush(client: Client, on_entries: Callable[[int, int], None]) -> None:
    """Return once the rollups contain everything; `on_entries` is told how many entries of how many they do.

    Raises TimeoutError when no log gets any further for a minute.
    """
    loop = asyncio.get_running_loop()
    applied_before, deadline = -1, loop.time()
    while True:
        logs = await client.list_logs(timeout=_TIMEOUT_S)
        applied, last = sum(log.applied_seq for log in logs), sum(log.last_seq for log in logs)
        on_entries(applied, last)
        if applied == last:
            return
        if applied > applied_before:
            applied_before, deadline = applied, loop.time() + _TIMEOUT_S
        elif loop.time() > deadline:
            raise TimeoutError(f"the flushes stand at entry {applied:,} of {last:,} for {_TIMEOUT_S:g} s")
        await asyncio.sleep(0.2)
