"""Tally as it ships: every service in one process on embedded stores, reached through the partitioner."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import numpy as np

from libs.domain.blocks import decode_all
from libs.domain.runs import merge
from libs.embedded.postgres import make_dsn
from libs.embedded.sockets import PREFIX
from loadtests.bench.contender import Store
from loadtests.bench.events import EVENT_TYPES, Request
from loadtests.bench.flushes import FlushWatch
from loadtests.bench.oracle import Counts
from loadtests.stack import open_stack
from tally.client import Client, Columns
from tally.client._delivery.transport import TransportName

TIMEOUT_S = 120.0
"""Of one request with its retries: a shard that is behind with its flushes makes callers wait."""
_SETTLE_S = 120.0
_LOOK_S = 0.2
_SAMPLE = 20
CHANNEL_OPTIONS = (("grpc.enable_http_proxy", 0),)
Make = Callable[["Reached"], "Tally"]
"""one way to send"""
_BUSY_S = 0.1
_BODIES = "select body from counting.rollup_block where generation > 0"


def lay_out(request: Request) -> Columns:
    """What a client with arrays does before it sends."""
    videos, video_index = np.unique(request.video, return_inverse=True)
    return Columns(
        video_ids=tuple(request.video_ids[videos].tolist()),
        event_types=EVENT_TYPES,
        video_index=video_index.astype("<u2").tobytes(),
        event_type_index=request.event_type.astype("<u2").tobytes(),
    )


@dataclass(frozen=True, slots=True)
class Reached:
    """The ways into a Tally that runs."""

    client: Client
    """to the partitioner"""
    reader: Client
    """to the query service"""
    channel: grpc.aio.Channel
    """to the partitioner, without the library"""
    dsn: str


class Tally(Store):
    """Columns, one request after the other, by the client library; how they go is for its transport."""

    def __init__(self, reached: Reached) -> None:
        self.client = reached.client
        self._reader = reached.reader
        self._dsn = reached.dsn
        self._watch = FlushWatch()

    async def send(self, request: Request) -> None:
        await self.client.process_many(lay_out(request), timeout=TIMEOUT_S)

    async def settle(self) -> None:
        end = time.monotonic() + _SETTLE_S
        while await self._is_behind():
            if time.monotonic() > end:
                raise TimeoutError(f"the rollups did not catch up within {_SETTLE_S:g} s")
            await asyncio.sleep(_LOOK_S)

    async def _is_behind(self) -> bool:
        logs = await self._reader.list_logs(timeout=TIMEOUT_S)
        return any(log.applied_seq < log.last_seq for log in logs)

    @asynccontextmanager
    async def observe(self) -> AsyncIterator[None]:
        async with self._watch.watch(self._reader):
            yield

    def observations(self) -> dict[str, Any]:
        return self._watch.observations()

    async def find_fault(self, counts_are_exact: Callable[[Counts], str | None]) -> str | None:
        """All counts from the rollups, a sample of them by the api, and Tally's own audit."""
        counts = await self._read_rollups()
        return counts_are_exact(counts) or await self._compare_with_api(counts) or await self._audit()

    async def _read_rollups(self) -> Counts:
        connection = await asyncpg.connect(self._dsn)
        try:
            bodies = [body for (body,) in await connection.fetch(_BODIES)]
        finally:
            await connection.close()
        run = merge([decode_all(bodies)])
        series, starts = np.unique(run.cells.series, return_index=True)
        counts = np.add.reduceat(run.cells.count, starts) if len(run) else run.cells.count
        videos = run.videos
        return Counts(
            [videos[each >> 32].decode() for each in series.tolist()],
            [run.types[each & 0xFFFFFFFF].decode() for each in series.tolist()],
            counts.tolist(),
        )

    async def _compare_with_api(self, counts: Counts) -> str | None:
        step = max(1, len(counts.counts) // _SAMPLE)
        for at in range(0, len(counts.counts), step):
            video_id, event_type = counts.video_ids[at], counts.event_types[at]
            answer = await self._reader.get_count(video_id, event_type, strong=True, timeout=TIMEOUT_S)
            if answer.count != counts.counts[at]:
                return f"GetCount says {answer.count:,} {event_type} of {video_id}, the rollups {counts.counts[at]:,}"
        return None

    async def _audit(self) -> str | None:
        audit = await self._reader.audit(timeout=TIMEOUT_S)
        return f"the audit finds a discrepancy: {audit}" if audit.discrepancy_events else None


async def call_patiently(call: grpc.aio.UnaryUnaryMultiCallable[Any, Any], message: Any) -> None:
    """Call without the library, and again with the same bytes for as long as the service is too busy."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            try:
                await call(message)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                await asyncio.sleep(_BUSY_S)
            else:
                return


@asynccontextmanager
async def open_tally(
    folder: Path,
    make: Make = Tally,
    transport: TransportName = "unary",
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[Store]:
    """Run `all`, and connect to it. `settings`: variables other than those it ships with."""
    with (
        open_stack(folder, folder / "tally.log", settings) as address,
        reaching_postgres(folder / "data" / "postgres") as dsn,
    ):
        async with connect(address, dsn, make, transport) as store:
            yield store


@asynccontextmanager
async def connect(
    address: str, dsn: str, make: Make, transport: TransportName = "unary", reading: str | None = None
) -> AsyncIterator[Store]:
    """Clients of a Tally that runs. `reading`: where the query service is, when it is elsewhere."""
    async with (
        Client(address, timeout=TIMEOUT_S, transport=transport) as client,
        Client(reading or address, timeout=TIMEOUT_S) as reader,
        grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel,
    ):
        yield make(Reached(client, reader, channel, dsn))


@contextmanager
def reaching_postgres(postgres: Path) -> Iterator[str]:
    """The DSN of the embedded Postgres that another process runs in a folder of ours."""
    (sockets,) = postgres.glob(f"{PREFIX}*")
    opened = os.open(sockets, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield make_dsn(Path(f"/proc/{os.getpid()}/fd/{opened}"))
    finally:
        os.close(opened)
