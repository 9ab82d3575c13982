"""More than the services can take: what is too much is refused, and no process outgrows its pod.

docs/operations.md ("Overload and memory") names the bounds that are verified here.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import numpy as np
import pytest
import yaml

from tally.contract.rules import MAX_EVENTS
from tally.ingest.v1.ingest_pb2 import EventColumns, ProcessEventsRequest
from tally.ingest.v1.ingest_pb2_grpc import IngestServiceStub
from tests.support.entries import new_id
from tests.support.processes import ServiceProcess, run_service
from tests.support.proof import open_proof
from tests.support.reach import open_channel
from tests.support.tell import tell

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

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


MIB = 1024 * 1024
PHASE_SECONDS, FROZEN_SECONDS, THAWED_SECONDS, BACKOFF_SECONDS = 60.0, 8.0, 6.0, 0.2
WAITING_CALLERS = {0.6: 80, 1.0: 48, 8.0: 16}
"""Callers at once, by the size of their requests in MiB: with all of them 48 MiB and more are waiting."""
NAME_BYTES, EVENTS_OF_A_VIDEO = 126, 4
SLOW_ROWS = """
create function be_slow() returns trigger language plpgsql as $$ begin
    perform pg_sleep(0.00005 * new.cells);
    return new;
end $$;
create trigger be_slow before insert on counting.rollup_block for each row execute function be_slow()"""


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
        run_service("counting", dsn, valkey_url, folder, is_fork=False) as counting,
        run_service(
            "partitioner", dsn, valkey_url, folder, shards=[counting.address], is_fork=False
        ) as partitioner,
    ):
        yield {"counting/statefulset.yaml": counting, "partitioner/deployment.yaml": partitioner}


@pytest.mark.exact
async def test_at_three_times_the_load_every_process_stays_within_the_memory_of_its_pod(
    dsn: str, valkey_url: str, tmp_path: Path
) -> None:
    batches = cycle(make_batches(500))
    async with services(dsn, valkey_url, tmp_path) as processes:
        address = processes["partitioner/deployment.yaml"].address
        async with open_channel(address) as channel:
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
        journaled = await connection.fetchval("select sum(events)::bigint from counting.journal")
    assert acknowledged <= journaled <= acknowledged + (served.refused + overload.refused) * REQUEST_EVENTS


@asynccontextmanager
async def frozen_shard(dsn: str, shard: ServiceProcess) -> AsyncIterator[None]:  # noqa: ARG001 - as the other
    """The shard stands still for most of the time, and answers in between."""

    async def freeze() -> None:
        while True:
            shard.freeze()
            await asyncio.sleep(FROZEN_SECONDS)
            shard.thaw()
            await asyncio.sleep(THAWED_SECONDS)

    freezing = asyncio.create_task(freeze())
    try:
        yield
    finally:
        freezing.cancel()
        shard.thaw()


@asynccontextmanager
async def slow_postgres(dsn: str, shard: ServiceProcess) -> AsyncIterator[None]:  # noqa: ARG001 - as the other
    """Every row of a flush takes Postgres a tenth of a millisecond more."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(SLOW_ROWS)
        yield
    finally:
        await connection.close()


@pytest.mark.parametrize("hindrance", [frozen_shard, slow_postgres], ids=lambda each: each.__name__)
async def test_large_requests_refused_and_accepted_stay_within_the_memory_of_the_pods(
    hindrance: Callable[[str, ServiceProcess], AbstractAsyncContextManager[None]],
    dsn: str,
    valkey_url: str,
    tmp_path: Path,
) -> None:
    acknowledged = 0
    async with services(dsn, valkey_url, tmp_path) as processes:
        address = processes["partitioner/deployment.yaml"].address
        async with hindrance(dsn, processes["counting/statefulset.yaml"]):
            for size_mib, callers in WAITING_CALLERS.items():
                for process in processes.values():
                    forget_peak(process)
                codes, events = await send_large(address, int(size_mib * MIB), callers)
                acknowledged += codes[grpc.StatusCode.OK] * events
                peaks = {name: peak_bytes(process) for name, process in processes.items()}
                told = (
                    f"{size_mib} MiB: {dict(codes)}, peaks in MiB {[peak // MIB for peak in peaks.values()]}"
                )
                tell(told)
                assert all(peak < limit_bytes(name) for name, peak in peaks.items()), told
                assert codes[grpc.StatusCode.OK] > 0, told
                assert codes[grpc.StatusCode.RESOURCE_EXHAUSTED] > 0, told
                assert codes[grpc.StatusCode.INVALID_ARGUMENT] > 0, told
                assert codes.keys() <= {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, *NOT_TAKEN}, (
                    told
                )
    async with open_proof(dsn) as connection:
        journaled = await connection.fetchval("select coalesce(sum(events), 0)::bigint from counting.journal")
    assert journaled >= acknowledged


async def send_large(address: str, size: int, callers: int) -> tuple[Counter[grpc.StatusCode], int]:
    """What became of the requests of callers who come back at once, and how many events each has.

    One request in four has a name that is refused: it is found late, when all of it has been read.
    """
    codes: Counter[grpc.StatusCode] = Counter()
    bodies, events = make_large(size)
    end = time.monotonic() + PHASE_SECONDS

    async def caller(call: Any, number: int) -> None:
        sent = number
        while time.monotonic() < end:
            body, sent = bodies[sent % len(bodies)], sent + 1
            try:
                await call(
                    ProcessEventsRequest(request_id=str(new_id())).SerializeToString() + body,
                    timeout=PATIENCE_SECONDS,
                )
            except grpc.aio.AioRpcError as error:
                codes[error.code()] += 1
                await asyncio.sleep(BACKOFF_SECONDS)
            else:
                codes[grpc.StatusCode.OK] += 1

    async with open_channel(address) as channel:
        call: Any = channel.unary_unary("/tally.ingest.v1.IngestService/ProcessEvents")
        await asyncio.gather(*(caller(call, number) for number in range(callers)))
    return codes, events


def make_large(size: int) -> tuple[list[bytes], int]:
    """Serialized requests of about a size but for their ids, the last one bad; and how many events each has."""
    events = min(MAX_EVENTS, size // (NAME_BYTES + 2 + 6 + (NAME_BYTES + 2) // EVENTS_OF_A_VIDEO))
    actor_index = np.arange(events, dtype="<u2")
    video_index = actor_index // EVENTS_OF_A_VIDEO
    bodies = []
    for number, event_type in enumerate(["view", "view", "view", "BAD"]):
        columns = EventColumns(
            video_ids=[
                f"video {number} {place}".ljust(NAME_BYTES, "x") for place in range(video_index[-1] + 1)
            ],
            event_types=[event_type],
            actor_ids=[f"actor {place}".ljust(NAME_BYTES, "x") for place in range(events)],
            video_index=video_index.tobytes(),
            event_type_index=bytes(2 * events),
            actor_index=actor_index.tobytes(),
        )
        bodies.append(ProcessEventsRequest(columns=columns).SerializeToString())
    return bodies, events


def forget_peak(process: ServiceProcess) -> None:
    """Let the peak begin anew (https://man7.org/linux/man-pages/man5/proc_pid_clear_refs.5.html)."""
    with suppress(OSError):  # then it is that of the whole life, which is stricter
        Path(f"/proc/{process.process.pid}/clear_refs").write_text("5")


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
