"""Contenders side by side: rounds in turn (A B C, C B A, …), so that a slow minute of the machine meets them all."""

import asyncio
import gc
import resource
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loadtests.bench.contender import Contender, Store
from loadtests.bench.events import Cursor, Events
from loadtests.bench.figures import Result, Round, per_million
from loadtests.bench.measure import send_closed, send_open
from loadtests.bench.oracle import find_fault
from loadtests.bench.usage import ServerProcesses, disk_bytes, note_children

SINGLE_CALLERS = 128
_ENOUGH_REQUESTS = 1_100
_STEP_SECONDS = 300.0
"""The longest that a contender may take for any step, before it is given up for stuck."""
Tell = Callable[[str], None]
"""shows a line of progress"""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long everything takes at most."""

    events: int = 2_000_000
    """of one round; one pass over the events of the run"""
    rounds: int = 3
    round_seconds: float = 7.0
    ramp_seconds: float = 0.5
    """for each number of requests in flight that is tried"""
    open_seconds: float = 6.0
    """at half load; up to three times as long where requests are few, to tell a p99.9"""
    seed: int = 1

    def seconds_of_round(self, request_events: int) -> float:
        """Single calls take all the time that they are given, and tell enough in half of it."""
        return self.round_seconds / 2 if request_events == 1 else self.round_seconds


def choose_in_flight(request_events: int) -> Sequence[int]:
    """How many requests in flight are tried, the same for every contender; each then runs with what it does best.

    Single calls are compared with the same number of callers.
    """
    if request_events == 1:
        return (SINGLE_CALLERS,)
    return (16, 64, 128) if request_events < 1_000 else (4, 8, 16, 32)


class Lane:
    """One contender in its group: its servers, its cursor and its result."""

    def __init__(self, contender: Contender, events: Events, folder: Path) -> None:
        self.contender = contender
        self.folder = folder
        self.cursor = Cursor(events, contender.request_events)
        self.result = Result(contender.name, contender.request_events, contender.mix.name, contender.lacks)
        self.processes = ServerProcesses()
        self._opened: Store | None = None
        self._disk_before = 0

    @property
    def store(self) -> Store:
        if self._opened is None:
            raise AssertionError("it is open by then")
        return self._opened

    async def open(self, stack: AsyncExitStack) -> None:
        """Start the servers."""
        self.folder.mkdir()
        with note_children() as self.processes:
            self._opened = await stack.enter_async_context(self.contender.open(self.folder))
        self._disk_before = disk_bytes(self.folder)

    async def ramp(self, plan: Plan) -> None:
        """Warm up, and find how many requests in flight are fastest."""
        reached: Counter[int] = Counter()
        there = choose_in_flight(self.contender.request_events)
        for in_flight in (
            *there,
            *reversed(there),
        ):  # there and back, for a machine that others slow down at times
            requests = self.cursor.take_up_to(plan.events)
            sent = await send_closed(self.store, requests, in_flight, plan.ramp_seconds)
            reached[in_flight] += round(sent.events_per_s)
        ((self.result.in_flight, _),) = reached.most_common(1)
        await self.store.settle()

    async def run_round(self, plan: Plan) -> Round:
        """One closed loop, and the time until the counts have all of it."""
        cpu, client_cpu = self.processes.cpu_seconds(), _own_cpu_seconds()
        started = time.perf_counter()
        async with self.store.observe():
            requests = self.cursor.take_up_to(plan.events)
            seconds = plan.seconds_of_round(self.contender.request_events)
            sent = await send_closed(self.store, requests, self.result.in_flight, seconds)
            await self.store.settle()
        done = Round(
            events=sent.events,
            requests=len(sent.latencies_s),
            seconds=sent.seconds,
            counted_seconds=time.perf_counter() - started,
            server_cpu_seconds=self.processes.cpu_seconds() - cpu,
            client_cpu_seconds=_own_cpu_seconds() - client_cpu,
        )
        self.result.rounds.append(done)
        self.result.closed_latencies_s += sent.latencies_s
        self.result.memory_bytes = max(self.result.memory_bytes, self.processes.memory_bytes())
        grown = disk_bytes(self.folder) - self._disk_before
        self.result.disk_bytes_per_million = per_million(grown, self.cursor.taken)
        return done

    async def run_half_load(self, plan: Plan) -> None:
        """The open loop, at half of what the closed one reached."""
        requests_per_s = self.result.events_per_s / self.contender.request_events / 2
        seconds = min(max(plan.open_seconds, _ENOUGH_REQUESTS / requests_per_s), 3 * plan.open_seconds)
        random = np.random.default_rng(plan.seed)
        sent = await send_open(self.store, self.cursor, requests_per_s, seconds, random)
        self.result.half_load_per_s = sent.events_per_s
        self.result.latencies_s = sent.latencies_s
        await self.store.settle()

    def keep_logs(self, folder: Path) -> None:
        """Copy the logs of a contender that failed, for the search of the cause."""
        if self.result.fault is not None:
            for log in self.folder.glob("**/*.log"):
                shutil.copyfile(log, folder / f"bench-{self.contender.name}-{log.name}")

    @asynccontextmanager
    async def step(self, tell: Tell) -> AsyncIterator[None]:
        """What goes wrong within it, or never ends, takes the contender out of the race, and not the others."""
        try:
            async with asyncio.timeout(_STEP_SECONDS) as limit:
                yield
        except Exception as error:  # noqa: BLE001 - whatever a client or a server comes up with
            stuck = f"not done within {_STEP_SECONDS:g} s"
            self.result.fault = stuck if limit.expired() else _describe(error)
        if self.result.fault:
            tell(f"{self.contender.name}: {self.result.fault}")

    async def check(self) -> None:
        """Compare all counts with the oracle."""
        self.result.observations = self.store.observations()
        self.result.fault = await self.store.find_fault(lambda counts: find_fault(self.cursor, counts))


async def run_group(
    contenders: Sequence[Contender], events: Mapping[str, Events], plan: Plan, data_dir: Path, tell: Tell
) -> list[Result]:
    """Run them side by side; `events` by the name of the mix. A contender that fails has a fault, and no figures.

    Their files go to a folder in `data_dir`, and go with it at the end; of those that failed, the logs stay.
    """
    with tempfile.TemporaryDirectory(prefix="bench-", dir=data_dir, ignore_cleanup_errors=True) as folder:
        lanes = [Lane(each, events[each.mix.name], Path(folder) / each.name) for each in contenders]
        async with AsyncExitStack() as stack:
            for lane in lanes:
                tell(f"{lane.contender.name}: starting")
                async with lane.step(tell):
                    await lane.open(stack)
                    tell(f"{lane.contender.name}: serving, with {lane.processes.names()}")
            gc.collect()
            gc.freeze()  # what is here by now stays, and need not be looked at while the clock runs
            stack.callback(gc.unfreeze)
            for lane in _in_race(lanes):
                tell(f"{lane.contender.name}: warming up")
                async with lane.step(tell):
                    await lane.ramp(plan)
            for number in range(plan.rounds):
                for lane in _in_race(lanes[:: 1 if number % 2 == 0 else -1]):
                    async with lane.step(tell):
                        done = await lane.run_round(plan)
                        tell(f"{lane.contender.name}: round {number + 1} of {plan.rounds}, {_sum_up(done)}")
            for lane in _in_race(lanes):
                tell(f"{lane.contender.name}: half load")
                async with lane.step(tell):
                    await lane.run_half_load(plan)
                    await lane.check()
        for lane in lanes:
            lane.keep_logs(data_dir)
        return [lane.result for lane in lanes]


def _in_race(lanes: Iterable[Lane]) -> Iterator[Lane]:
    """Those that are still worth a measurement when their turn comes."""
    return (lane for lane in lanes if lane.result.fault is None)


def _sum_up(done: Round) -> str:
    return f"{done.events:,} events, {done.events_per_s:,.0f}/s acknowledged, {done.counted_per_s:,.0f}/s counted"


def _own_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _describe(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"
