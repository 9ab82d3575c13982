"""A thin gRPC door before a peer: the request that Tally gets, decoded, summed and handed on. It checks nothing.

`python -m loadtests.bench.door valkey|postgres URL` is the server.
"""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import uvloop

from libs.rpc.columns import decode
from loadtests.bench import postgres_batch, valkey_lua
from loadtests.bench.child import open_child
from loadtests.bench.contender import Store
from loadtests.bench.counter import Counter
from loadtests.bench.events import Pairs, Request
from loadtests.bench.oracle import Counts
from loadtests.bench.postgres import open_counting_postgres
from loadtests.bench.serving import serve
from loadtests.bench.tally import TIMEOUT_S, lay_out
from loadtests.bench.valkey import open_durable_valkey
from tally.client import Client
from tally.common.v1.common_pb2 import DURABILITY_JOURNALED
from tally.ingest.v1 import ingest_pb2

_COUNTERS: dict[str, Callable[[str], AbstractAsyncContextManager[Counter]]] = {
    "valkey": valkey_lua.open_counter,
    "postgres": postgres_batch.open_counter,
}


class CountedByDoor(Store):
    """The client sends what it sends to Tally, by Tally's library."""

    def __init__(self, client: Client, counter: Counter) -> None:
        self._client = client
        self._counter = counter

    async def send(self, request: Request) -> None:
        await self._client.process_many(lay_out(request), timeout=TIMEOUT_S)

    async def find_fault(self, counts_are_exact: Callable[[Counts], str | None]) -> str | None:
        return counts_are_exact(await self._counter.counts())


@asynccontextmanager
async def open_door_to_valkey(folder: Path) -> AsyncIterator[Store]:
    """Run Valkey and a door to its script."""
    async with open_durable_valkey(folder / "valkey") as url, open_door("valkey", url, folder) as store:
        yield store


@asynccontextmanager
async def open_door_to_postgres(folder: Path) -> AsyncIterator[Store]:
    """Run Postgres and a door to its statement."""
    async with (
        open_counting_postgres(folder / "postgres") as dsn,
        open_door("postgres", dsn, folder) as store,
    ):
        yield store


@asynccontextmanager
async def open_door(kind: str, url: str, folder: Path) -> AsyncIterator[Store]:
    """Run a door to a store that runs, and connect to it."""
    async with (
        _COUNTERS[kind](url) as counter,
        open_child("loadtests.bench.door", kind, url, log=folder / "door.log") as address,
        Client(address, timeout=TIMEOUT_S) as client,
    ):
        yield CountedByDoor(client, counter)


def read_pairs(request: ingest_pb2.ProcessEventsRequest) -> Pairs:
    """The columns of a request, summed by video and event type."""
    events = decode(request.columns)
    type_count = len(events.event_types)
    pairs, counts = np.unique(
        events.video_index.astype(np.int64) * type_count + events.event_type_index, return_counts=True
    )
    video, event_type = np.divmod(pairs, type_count)
    return Pairs(
        [events.video_ids[number] for number in video.tolist()],
        [events.event_types[number] for number in event_type.tolist()],
        counts.tolist(),
    )


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, counter: Counter) -> None:
        self._method = grpc.unary_unary_rpc_method_handler(
            self._process_events,
            request_deserializer=ingest_pb2.ProcessEventsRequest.FromString,
            response_serializer=ingest_pb2.ProcessEventsResponse.SerializeToString,
        )
        self._counter = counter

    def service(self, handler_call_details: Any) -> Any:
        return self._method if handler_call_details.method.endswith("/ProcessEvents") else None

    async def _process_events(
        self,
        request: ingest_pb2.ProcessEventsRequest,
        context: Any,  # noqa: ARG002 - gRPC's signature
    ) -> ingest_pb2.ProcessEventsResponse:
        pairs = read_pairs(request)
        is_new = await self._counter.add(request.request_id, pairs)
        event_count = sum(pairs.counts)
        receipt = ingest_pb2.Receipt(
            request_id=request.request_id,
            accepted_count=event_count if is_new else 0,
            duplicate_count=0 if is_new else event_count,
            durability=DURABILITY_JOURNALED,
        )
        return ingest_pb2.ProcessEventsResponse(receipt=receipt)


async def _main(kind: str, url: str) -> None:
    async with _COUNTERS[kind](url) as counter:
        await serve(_Handler(counter))


if __name__ == "__main__":
    uvloop.run(_main(*sys.argv[1:]))
