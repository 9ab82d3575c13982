"""Three times as much as the services can take: what is too much is refused, and no process outgrows its pod."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import yaml

from tally.ingest.v1.ingest_pb2 import EventColumns, ProcessEventsRequest
from tally.ingest.v1.ingest_pb2_grpc import IngestServiceStub
from tests.support.entries import new_id
from tests.support.processes import ServiceProcess, run_service
from tests.support.proof import open_proof
from tests.support.tell import tell

pytestmark = [pytest.mark.long, pytest.mark.exact, pytest.mark.timeout(240)]

BASE = Path(__file__).parents[2] / "k8s" / "base"
REQUEST_EVENTS, VIDEOS = 1_000, 100_000
CALLERS = 32
CLOSED_SECONDS, OVERLOAD_SECONDS, PATIENCE_SECONDS = 5.0, 12.0, 5.0
TIMES = 3
TICK_SECONDS = 0.01
NOT_TAKEN = {
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,  # the same, when the server notices first
}


@dataclass
class Load:
    """What was sent, and what became of it; in requests."""

    sent: int = 0
    acknowledged: int = 0
    refused: int = 0
    others: list[grpc.aio.AioRpcError] = field(default_factory=list)

    async def call(self, stub: Any, columns: EventColumns) -> None:
        self.sent += 1
        request = ProcessEventsRequest(request_id=str(new_id()), columns=columns)
        try:
            await stub.ProcessEvents(request, timeout=PATIENCE_SECONDS)
        except grpc.aio.AioRpcError as error:
            if error.code() in NOT_TAKEN:
                self.refused += 1
            else:
                self.others.append(error)
        else:
            self.acknowledged += 1


@asynccontextmanager
async def services(dsn: str, valkey_url: str, folder: Path) -> AsyncIterator[dict[str, ServiceProcess]]:
    async with (
        run_service("counting", dsn, valkey_url, folder) as counting,
        run_service("partitioner", dsn, valkey_url, folder, shards=[counting.address]) as partitioner,
    ):
        yield {"counting/statefulset.yaml": counting, "partitioner/deployment.yaml": partitioner}


async def test_at_three_times_the_load_every_process_stays_within_the_memory_of_its_pod(
    dsn: str, valkey_url: str, tmp_path: Path
) -> None:
    batches = cycle(make_batches(500))
    async with services(dsn, valkey_url, tmp_path) as processes:
        address = processes["partitioner/deployment.yaml"].address
        async with grpc.aio.insecure_channel(address) as channel:
            stub = IngestServiceStub(channel)
            served = await send_closed(stub, batches)
            overload = await send_open(stub, batches, TIMES * served.acknowledged / CLOSED_SECONDS)
        for name, process in processes.items():
            peak, limit = peak_bytes(process), limit_bytes(name)
            tell(f"{name}: {peak >> 20} of {limit >> 20} MiB")
            assert peak < limit, f"{name}: {peak >> 20} MiB"
        told = f"served {served}, then {overload}"
        assert not served.others, told
        assert not overload.others, told
        assert overload.sent > 0.9 * TIMES * served.acknowledged / CLOSED_SECONDS * OVERLOAD_SECONDS, told
        assert overload.refused > 0, told
        # It goes on serving what it can, instead of working for callers who have gone.
        share = overload.acknowledged / OVERLOAD_SECONDS / (served.acknowledged / CLOSED_SECONDS)
        tell(f"{told}: {share:.0%} of what it can")
        assert share > 1 / 3, told
    acknowledged = (served.acknowledged + overload.acknowledged) * REQUEST_EVENTS
    async with open_proof(dsn) as connection:
        journaled = await connection.fetchval("select sum(events)::bigint from journal")
    assert acknowledged <= journaled <= acknowledged + (served.refused + overload.refused) * REQUEST_EVENTS


async def send_closed(stub: Any, batches: Iterator[EventColumns]) -> Load:
    """What it can serve: so many callers, each with its next request when the last is answered."""
    load, end = Load(), time.monotonic() + CLOSED_SECONDS

    async def caller() -> None:
        while time.monotonic() < end:
            await load.call(stub, next(batches))

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return load


async def send_open(stub: Any, batches: Iterator[EventColumns], requests_per_s: float) -> Load:
    """Requests at a rate, whatever becomes of those before."""
    load, started = Load(), time.monotonic()
    async with asyncio.TaskGroup() as calls:
        while (elapsed := time.monotonic() - started) < OVERLOAD_SECONDS:
            for _ in range(int(elapsed * requests_per_s) - load.sent):
                calls.create_task(load.call(stub, next(batches)))
            await asyncio.sleep(TICK_SECONDS)
    return load


def make_batches(count: int) -> list[EventColumns]:
    random = np.random.default_rng(1)
    batches = []
    for _ in range(count):
        videos, index = np.unique(random.zipf(1.3, REQUEST_EVENTS) % VIDEOS, return_inverse=True)
        batches.append(
            EventColumns(
                video_ids=[f"video {number}" for number in videos.tolist()],
                event_types=["view"],
                video_index=index.astype("<u2").tobytes(),
                event_type_index=bytes(2 * REQUEST_EVENTS),
            )
        )
    return batches


def peak_bytes(process: ServiceProcess) -> int:
    """The most that it ever had resident."""
    status = Path(f"/proc/{process.process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def limit_bytes(manifest: str) -> int:
    """The memory limit of its pod."""
    text: str = yaml.safe_load((BASE / manifest).read_text())["spec"]["template"]["spec"]["containers"][0][
        "resources"
    ]["limits"]["memory"]
    return int(text[:-2]) * {"Mi": 1 << 20, "Gi": 1 << 30}[text[-2:]]
