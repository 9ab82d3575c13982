"""Clients that count until they are told to stop, and keep a ledger of it.

One request in twenty that a client makes here is sent twice on purpose: at once, by a second way or twice on one
stream; after its answer, by another partitioner; or after the fault. Those that the library makes of single events are
not. Most requests are sent again until they are answered, as a client should; some are given up after a first attempt
that failed, and their outcome stays unknown.

All ways of sending are in it: a call for each request, streams, and direct mode, which has to notice by itself that
partitions have moved. What one way has sent goes again by another.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import cycle, islice, pairwise
from typing import get_args

from tally.client import (
    Batch,
    Client,
    Durability,
    InvalidRequest,
    OutOfRange,
    Receipt,
    Refusal,
    ServerFault,
    TallyError,
    Unimplemented,
)
from tally.client._delivery.transport import TransportName
from tally.contract.errors import PartitionCountMismatch
from tests.fault.table.ledger import Ledger, Request
from tests.fault.table.requests import columns_of, draw_request
from tests.fault.table.submitting import submit_events
from tests.support.reach import open_client

_MUST_NOT_HAPPEN = (InvalidRequest, OutOfRange, PartitionCountMismatch, ServerFault, Unimplemented)
"""No request of the load deserves one of these, whatever is broken."""

_OF_CALLERS: tuple[TransportName, ...] = ("unary", "direct")
"""in turn"""
_DUPLICATE_SHARE = 0.05
_GIVE_UP_SHARE = 0.1
_CALL_SECONDS = 5.0
_PATIENCE_SECONDS = 60.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 2.0
_STREAM_SECONDS = 2.0
_UNDER_WAY = 24
"""requests of one client at once; those that come while so many wait are not sent"""


@dataclass(frozen=True, slots=True)
class Doors:
    """Where Tally is reached, as addresses for a client."""

    door: str
    """the balancer before everything"""
    partitioners: tuple[str, ...]
    shards: tuple[str, ...]
    partition_count: int


@dataclass(frozen=True, slots=True)
class Pace:
    """How much is sent, small enough that two cores are not busy with it."""

    callers: int = 3
    calls_per_second: float = 8.0
    batches_per_second: float = 8.0
    events_per_second: float = 30.0
    """of those that are handed in one by one"""


@dataclass(frozen=True, slots=True)
class Answered:
    """An attempt with a receipt; the times are those of the event loop, in seconds."""

    sent_at: float
    answered_at: float
    partitions: frozenset[int]
    durability: Durability


class Load:
    """The clients of one round that live in this process."""

    def __init__(self, doors: Doors, prefix: str, chance: random.Random) -> None:
        """`prefix` begins the ids of the round's videos."""
        self.ledger = Ledger()
        self.answered: list[Answered] = []
        self._doors = doors
        self._prefix = prefix
        self._chance = chance
        self._stopping = asyncio.Event()
        self._late: list[Request] = []
        self._each: list[Client] = []
        """a client for each partitioner alone"""

    @asynccontextmanager
    async def running(self, pace: Pace) -> AsyncIterator[None]:
        """Count within this context. Leaving it waits until what was sent is answered or given up."""
        async with AsyncExitStack() as stack:
            for address in self._doors.partitioners:
                self._each.append(await stack.enter_async_context(open_client(address)))

            async def open_another(transport: TransportName = "unary") -> Client:
                return await stack.enter_async_context(open_client(self._doors.door, transport=transport))

            clients = [
                self._call(await open_another(transport), pace.calls_per_second)
                for transport in islice(cycle(_OF_CALLERS), pace.callers)
            ]
            clients.append(self._stream(await open_another(), pace.batches_per_second))
            clients += [
                self._submit(await open_another(transport), pace.events_per_second)
                for transport in get_args(TransportName)
            ]
            async with asyncio.TaskGroup() as tasks:
                for client in clients:
                    tasks.create_task(client)
                try:
                    yield
                finally:
                    self._stopping.set()
            for request in self._late:
                await self._attempt(self._chance.choice(self._each), request, is_extra=True)

    def served_again(self, since: float) -> float | None:
        """Seconds from `since` until every partition had taken something sent after it; None: not all have."""
        first = dict.fromkeys(range(self._doors.partition_count), float("inf"))
        for answer in self.answered:
            if answer.sent_at >= since:
                for partition in answer.partitions:
                    first[partition] = min(first[partition], answer.answered_at)
        last = max(first.values())
        return None if last == float("inf") else last - since

    def longest_stall(self, began: float, ended: float) -> float:
        """The longest time between these two without a receipt, in seconds."""
        times = [answer.answered_at for answer in self.answered if began <= answer.answered_at <= ended]
        edges = [began, *sorted(times), ended]
        return max(later - earlier for earlier, later in pairwise(edges))

    async def _call(self, client: Client, per_second: float) -> None:
        """Send requests, each in a call of its own, some of them at the same time."""
        async with asyncio.TaskGroup() as tasks:
            sending: set[asyncio.Task[None]] = set()
            while not await self._stops_within(self._chance.expovariate(per_second)):
                if len(sending) < _UNDER_WAY:
                    task = tasks.create_task(self._send(client, self._draw()))
                    sending.add(task)
                    task.add_done_callback(sending.discard)

    async def _send(self, client: Client, request: Request) -> None:
        extra = self._draw_extra("at once", "elsewhere", "later")
        gives_up = self._chance.random() < _GIVE_UP_SHARE
        attempts = [self._attempt(client, request)]
        if extra == "at once":
            attempts.append(self._attempt(self._chance.choice(self._each), request, is_extra=True))
        await asyncio.gather(*attempts)
        deadline, pause = self._now() + _PATIENCE_SECONDS, _FIRST_PAUSE_SECONDS
        while not request.durability and not gives_up and self._now() < deadline:
            await asyncio.sleep(self._chance.uniform(0, pause))
            await self._attempt(client, request)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        if extra == "elsewhere":
            await self._attempt(self._chance.choice(self._each), request, is_extra=True)
        if extra == "later":
            self._late.append(request)
        if not gives_up:
            self._expect_answers([request])

    async def _attempt(self, client: Client, request: Request, *, is_extra: bool = False) -> None:
        """Send a request once. An extra one goes to one partitioner, be it alive or not, and may fail."""
        sent_at = self._now()
        self.ledger.duplicates += is_extra
        try:
            receipt = await client.process_many(
                columns_of(request), request_id=request.request_id, timeout=_CALL_SECONDS
            )
        except TallyError as error:
            if isinstance(error, _MUST_NOT_HAPPEN):
                self.ledger.wrong.append(f"a sound request was answered with {type(error).__name__}: {error}")
            if not is_extra:
                self.ledger.failures[error.reason] += 1
        else:
            self._note(request, receipt, sent_at)

    async def _submit(self, client: Client, per_second: float) -> None:
        prefix = f"{self._prefix}one by one "
        await submit_events(client, self.ledger, per_second, prefix, self._chance, self._stopping)

    async def _stream(self, client: Client, per_second: float) -> None:
        """Send batches on one stream after the other, again on the next if they have no answer on theirs."""
        pending: dict[str, Request] = {}
        deadline = float("inf")
        while (not self._stopping.is_set() or pending) and self._now() < deadline:
            try:
                await self._stream_once(client, per_second, pending)
            except TallyError as error:
                self.ledger.broken_streams[error.reason] += 1
                await asyncio.sleep(self._chance.uniform(0, _FIRST_PAUSE_SECONDS))
            if self._stopping.is_set():
                deadline = min(deadline, self._now() + _PATIENCE_SECONDS)
        self._expect_answers(pending.values())

    async def _stream_once(self, client: Client, per_second: float, pending: dict[str, Request]) -> None:
        sent: dict[str, tuple[Request, float]] = {}
        end = self._now() + _STREAM_SECONDS

        def noted(request: Request) -> Batch:
            sent.setdefault(request.request_id, (request, self._now()))
            return client.batch(columns_of(request), request_id=request.request_id)

        async def batches() -> AsyncIterator[Batch]:
            for request in list(pending.values()):
                yield noted(request)
            while self._now() < end and not await self._stops_within(self._chance.expovariate(per_second)):
                if len(pending) < _UNDER_WAY:
                    request = self._draw()
                    pending[request.request_id] = request
                    yield noted(request)
                    match self._draw_extra("at once", "later"):
                        case "at once":
                            self.ledger.duplicates += 1
                            yield noted(request)
                        case "later":
                            self._late.append(request)

        async for outcome in client.stream(batches(), timeout=_STREAM_SECONDS + _PATIENCE_SECONDS / 2):
            if isinstance(outcome, Refusal):
                self.ledger.broken_streams[outcome.reason] += 1
            else:
                pending.pop(outcome.request_id, None)
                request, sent_at = sent[outcome.request_id]
                self._note(request, outcome, sent_at)

    def _draw(self) -> Request:
        request = draw_request(self._chance, self._prefix)
        self.ledger.send(request)
        return request

    def _draw_extra(self, *ways: str) -> str:
        """How a request is sent once more on purpose; mostly, not at all."""
        return self._chance.choice(ways) if self._chance.random() < _DUPLICATE_SHARE else ""

    def _note(self, request: Request, receipt: Receipt, sent_at: float) -> None:
        self.ledger.acknowledge(request, receipt.accepted_count, receipt.duplicate_count, receipt.durability)
        partitions = request.partitions(self._doors.partition_count)
        self.answered.append(Answered(sent_at, self._now(), frozenset(partitions), receipt.durability))

    def _expect_answers(self, requests: Iterable[Request]) -> None:
        self.ledger.wrong += [
            f"request {request.request_id} was sent again and again for {_PATIENCE_SECONDS:g} s, and has no receipt"
            for request in requests
            if not request.durability
        ]

    async def _stops_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return False
        return True

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
