"""The floor of a single call: a bare grpc.aio server that sends back the bytes it gets.

`python -m loadtests.bench.echo` is the server.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import uvloop

from loadtests.bench.child import open_child
from loadtests.bench.contender import Store
from loadtests.bench.events import Request
from loadtests.bench.oracle import Counts
from loadtests.bench.serving import serve
from loadtests.bench.single import COUNT_EVENT, make_count_event
from loadtests.bench.tally import CHANNEL_OPTIONS
from tally.client.request_id import RequestIds
from tally.ingest.v1 import ingest_pb2

LACKS = ("counting",)


class Echo(Store):
    """Sends the CountEvent requests that Tally gets, by the same kind of call."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._call: grpc.aio.UnaryUnaryMultiCallable[ingest_pb2.CountEventRequest, bytes] = (
            channel.unary_unary(
                COUNT_EVENT, request_serializer=ingest_pb2.CountEventRequest.SerializeToString
            )
        )
        self._request_ids = RequestIds()
        self._strange_count = 0

    async def send(self, request: Request) -> None:
        message = make_count_event(request, self._request_ids)
        if await self._call(message) != message.SerializeToString():
            self._strange_count += 1

    async def find_fault(self, counts_are_exact: Callable[[Counts], str | None]) -> str | None:  # noqa: ARG002 - it counts nothing
        return f"{self._strange_count:,} answers were not the request" if self._strange_count else None


@asynccontextmanager
async def open_echo(folder: Path) -> AsyncIterator[Store]:
    """Run the server and connect to it."""
    async with (
        open_child("loadtests.bench.echo", log=folder / "echo.log") as address,
        grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel,
    ):
        yield Echo(channel)


class _Handler(grpc.GenericRpcHandler):
    def service(self, handler_call_details: Any) -> Any:  # noqa: ARG002 - every path is echoed
        return grpc.unary_unary_rpc_method_handler(_answer)


async def _answer(request: bytes, context: Any) -> bytes:  # noqa: ARG001 - gRPC's signature
    return request


if __name__ == "__main__":
    uvloop.run(serve(_Handler()))
