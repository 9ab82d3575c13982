"""Shards that restart one by one, freeze, and are killed, under steady calls. No call fails, and counts stay exact."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from services.partitioner.settings import PartitionerSettings, ProbeSettings
from tally.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from tests.support.entries import new_id
from tests.support.eventually import eventually
from tests.support.processes import FAST, ServiceProcess, run_service, stop
from tests.support.proof import assert_exact
from tests.support.stack import Stack, open_stack

pytestmark = [pytest.mark.long, pytest.mark.exact]

_CALLERS = 8
_TIMEOUT_SECONDS = 10.0
_DRAIN = {"TALLY_SERVER__DRAIN_DELAY_SECONDS": "0.8"}
_SETTINGS = PartitionerSettings(probe=ProbeSettings(interval_seconds=0.2))


@dataclass(slots=True)
class Load:
    """What callers met who never retry: each sends a request, waits for the answer, and sends the next."""

    acknowledged: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    longest_seconds: float = 0.0
    is_over: bool = False

    async def run(self, stub: Any, number: int) -> None:
        for n in itertools.count():
            if self.is_over:
                return
            video = f"video {number} {n % 10}"
            request = ingest_pb2.CountEventRequest(
                video_id=video, event_type="view", request_id=str(new_id())
            )
            started = time.monotonic()
            try:
                await stub.CountEvent(request, timeout=_TIMEOUT_SECONDS)
            except grpc.aio.AioRpcError as error:
                self.failures.append(f"{error.code()}: {error.details()}")
            else:
                self.acknowledged[video, "view"] += 1
            self.longest_seconds = max(self.longest_seconds, time.monotonic() - started)

    async def goes_on(self, calls: int = 100) -> None:
        """Wait until so many more calls have ended, some of every caller's."""
        before = Counter(self.acknowledged)

        async def is_so() -> bool:
            grown = self.acknowledged - before
            callers = {video.split()[1] for video, _ in grown}
            return bool(self.failures) or (grown.total() >= calls and len(callers) == _CALLERS)

        await eventually(is_so, 30.0)


@asynccontextmanager
async def loading(address: str) -> AsyncIterator[Load]:
    """Steady calls on a channel that makes no retries."""
    load = Load()
    async with grpc.aio.insecure_channel(address, options=[("grpc.enable_retries", 0)]) as channel:
        stub: Any = ingest_pb2_grpc.IngestServiceStub(channel)
        callers = [asyncio.create_task(load.run(stub, number)) for number in range(_CALLERS)]
        yield load
        load.is_over = True
        await asyncio.gather(*callers)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Shards in processes of their own, and a partitioner in that of the test."""

    partitioner: Stack
    shards: list[ServiceProcess]

    async def until_live(self, addresses: Sequence[str]) -> None:
        async def is_so() -> bool:
            found = await self.partitioner.client.partition_map()
            return {shard.address for shard in found.shards} == set(addresses)

        await eventually(is_so, 30.0)


@asynccontextmanager
async def cluster(count: int, dsn: str, valkey_url: str, folder: Path) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        async with asyncio.TaskGroup() as starting:
            opening = [
                starting.create_task(
                    stack.enter_async_context(
                        run_service("counting", dsn, valkey_url, folder, env=FAST | _DRAIN | _name(number))
                    )
                )
                for number in range(count)
            ]
        shards = [each.result() for each in opening]
        addresses = [shard.address for shard in shards]
        settings = _SETTINGS.model_copy(update={"shards": tuple(addresses)})
        partitioner = await stack.enter_async_context(
            open_stack(dsn, valkey_url, folder, ["partitioner"], {"partitioner": settings})
        )
        some = Cluster(partitioner, shards)
        await some.until_live(addresses)
        yield some


def _name(number: int) -> dict[str, str]:
    return {"TALLY_COUNTING__SHARD": f"counting-{number}"}


@pytest.mark.timeout(240)  # six starts of a process, on whatever machine
async def test_no_call_fails_while_every_shard_restarts_in_turn(
    dsn: str, valkey_url: str, tmp_path: Path
) -> None:
    async with cluster(3, dsn, valkey_url, tmp_path) as some, AsyncExitStack() as restarted:
        addresses = [shard.address for shard in some.shards]
        async with loading(some.partitioner.address) as load:
            for number, shard in enumerate(some.shards):
                await load.goes_on()
                await stop(shard)
                await restarted.enter_async_context(
                    run_service(
                        "counting",
                        dsn,
                        valkey_url,
                        tmp_path,
                        address=shard.address,
                        env=FAST | _DRAIN | _name(number),
                    )
                )
                await some.until_live(addresses)
            await load.goes_on()
        assert load.failures == []
        await assert_exact(dsn, load.acknowledged)


async def test_no_call_fails_when_a_shard_freezes_and_another_is_killed(
    dsn: str, valkey_url: str, tmp_path: Path
) -> None:
    async with cluster(2, dsn, valkey_url, tmp_path) as some:
        frozen, killed = some.shards
        async with loading(some.partitioner.address) as load:
            await load.goes_on()
            frozen.freeze()
            await some.until_live([killed.address])
            await load.goes_on()
            frozen.thaw()
            await some.until_live([frozen.address, killed.address])
            await load.goes_on()
            killed.kill()
            await load.goes_on()
            await some.until_live([frozen.address])
        assert load.failures == []
        # Nobody waited until an attempt timed out.
        assert load.longest_seconds < _SETTINGS.sender.attempt_timeout_seconds - 2
        await assert_exact(dsn, load.acknowledged)
