"""Direct mode on real processes: two shards and a partitioner, and what breaks in between."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tally.client import Client, Event
from tally.client.connection import Connection
from tally.client.methods import APPEND, Answer, Method, Request
from tests.support.eventually import eventually
from tests.support.processes import FAST, ServiceProcess, run_service
from tests.support.proof import assert_exact
from tests.support.relay import open_relay
from tests.support.stack import Stack

pytestmark = pytest.mark.long


@dataclass
class Load:
    """Requests that were acknowledged, and what they should have counted."""

    direct: Client
    indirect: Client
    shards: tuple[ServiceProcess, ServiceProcess]
    choose: random.Random = field(default_factory=lambda: random.Random(7))
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    acknowledged: int = 0

    async def send(self, count: int) -> None:
        """Requests by the direct way, some of them before by the other, and some once more after, either way."""
        await asyncio.gather(*(self._send() for _ in range(count)))

    async def until_acknowledged(self, more: int) -> None:
        """Wait for so many requests to get their receipts from now on."""
        enough = self.acknowledged + more

        async def is_so() -> bool:
            return self.acknowledged >= enough

        await eventually(is_so)

    async def _send(self) -> None:
        events = [
            Event(f"video {self.choose.randrange(200)}", self.choose.choice(["view", "like"]))
            for _ in range(self.choose.choice([1, 30, 300]))
        ]
        request_id = self.direct.make_request_id()
        fate = self.choose.random()
        if fate < 0.3:
            await self.indirect.process_many(events, request_id=request_id)
        receipt = await self.direct.process_many(events, request_id=request_id)
        assert receipt.accepted_count + receipt.duplicate_count == len(events)
        assert fate >= 0.3 or receipt.duplicate_count == len(events)
        if fate > 0.7:
            again = await self.choose.choice([self.direct, self.indirect]).process_many(
                events, request_id=request_id
            )
            assert again.duplicate_count == len(events)
        self.counts.update((event.video_id, event.event_type) for event in events)
        self.acknowledged += 1

    async def until_known(self, count: int) -> None:
        """Wait until the partitioner places the partitions over so many shards."""

        async def is_known() -> bool:
            return len((await self.indirect.partition_map()).shards) == count

        await eventually(is_known)

    async def until_direct(self, appends: Counter[str], address: str) -> None:
        """Wait until a shard is called again, or for the first time."""
        before = appends[address]

        async def is_called() -> bool:
            await self.send(1)
            return appends[address] > before

        await eventually(is_called)


@pytest.fixture
def appends(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each shard was called by the client."""
    counted: Counter[str] = Counter()
    attempt = Connection.attempt

    async def count(self: Connection, method: Method[Request, Answer], *args: Any, **options: Any) -> Answer:
        if method.path == APPEND.path:
            counted[self.address] += 1
        return await attempt(self, method, *args, **options)

    monkeypatch.setattr(Connection, "attempt", count)
    return counted


@asynccontextmanager
async def open_load(dsn: str, valkey_url: str, folder: Path) -> AsyncIterator[Load]:
    async with (
        run_service("counting", dsn, valkey_url, folder, env=FAST) as a,
        run_service("counting", dsn, valkey_url, folder, env=FAST) as b,
        run_service("partitioner", dsn, valkey_url, folder, shards=(a.address, b.address)) as partitioner,
        Client(partitioner.address, timeout=20) as indirect,
        Client(partitioner.address, transport="direct", timeout=20) as direct,
    ):
        load = Load(direct, indirect, (a, b))
        await load.until_known(2)
        yield load


@pytest.mark.exact
async def test_duplicates_sent_both_ways_and_a_shard_that_is_killed_count_once(
    dsn: str, valkey_url: str, tmp_path: Path, appends: Counter[str]
) -> None:
    async with open_load(dsn, valkey_url, tmp_path) as load:
        killed, left = load.shards
        await load.send(30)
        assert appends[killed.address] > 0 < appends[left.address]
        sending = asyncio.create_task(load.send(60))
        await load.until_acknowledged(10)
        killed.kill()
        await sending
        await load.until_direct(appends, left.address)
        await load.send(10)
        await assert_exact(dsn, load.counts)


@pytest.mark.exact
async def test_a_frozen_shard_is_gone_round_within_the_attempt_and_counts_nothing_twice_later(
    dsn: str, valkey_url: str, tmp_path: Path, appends: Counter[str]
) -> None:
    async with open_load(dsn, valkey_url, tmp_path) as load:
        frozen, left = load.shards
        await load.send(10)
        sending = asyncio.create_task(load.send(60))
        await load.until_acknowledged(10)
        frozen.freeze()
        await sending
        assert load.direct.progress.retries == 0
        await load.until_direct(appends, left.address)
        frozen.thaw()
        await load.until_known(2)
        await assert_exact(dsn, load.counts)


@pytest.mark.exact
async def test_a_shard_on_this_machine_counts_on_while_the_partitioner_is_away(stack: Stack) -> None:
    """Its address is a unix socket."""
    async with (
        open_relay(stack.address) as relay,
        Client(relay.address, transport="direct", timeout=20) as client,
    ):
        await client.count("before")
        relay.cut()
        relay.is_shut = True
        for n in range(50):
            await client.submit(f"video {n}", "like")
        await client.flush()
    expected = Counter({("before", "view"): 1} | {(f"video {n}", "like"): 1 for n in range(50)})
    await assert_exact(stack.dsn, expected)
