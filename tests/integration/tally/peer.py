"""A service at the other end of the client: it keeps the bytes of every request and answers as it is told."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NoReturn, TypeAlias

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # it ships no types

from tally.common.v1 import common_pb2
from tally.counting.v1 import counting_pb2
from tally.ingest.v1 import ingest_pb2

INGEST = "tally.ingest.v1.IngestService"
COUNTING = "tally.counting.v1.CountingService"
QUERY = "tally.query.v1.QueryService"
HEALTH = "grpc.health.v1.Health"


class StopEarly(Exception):
    """Raised by a turn: end the stream here, with success."""


Context: TypeAlias = grpc.aio.ServicerContext[bytes, bytes]
Turn: TypeAlias = Callable[[bytes, Context], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came: the name of the rpc, the bytes, and when (monotonic seconds)."""

    rpc: str
    payload: bytes
    at: float


@dataclass
class Peer:
    """`turns`: what happens to the next requests, one each, before they are answered. `answers`: by rpc, where
    it is not a receipt. `refusals`: what the next batches on streams are answered with."""

    address: str = ""
    received: list[Received] = field(default_factory=list)
    turns: deque[Turn] = field(default_factory=deque)
    answers: dict[str, Message] = field(default_factory=dict)
    refusals: deque[ingest_pb2.Refusal] = field(default_factory=deque)

    async def take(self, rpc: str, payload: bytes, context: Context) -> None:
        self.received.append(Received(rpc, payload, time.monotonic()))
        if self.turns:
            await self.turns.popleft()(payload, context)

    def answer(self, rpc: str, payload: bytes) -> bytes:
        if rpc in self.answers:
            return self.answers[rpc].SerializeToString()
        match rpc:
            case "CountEvent":
                count = ingest_pb2.CountEventRequest.FromString(payload)
                answer: Message = ingest_pb2.CountEventResponse(receipt=accept(count.request_id))
            case "ProcessEvent":
                process = ingest_pb2.ProcessEventRequest.FromString(payload)
                answer = ingest_pb2.ProcessEventResponse(receipt=accept(process.request_id))
            case "Append":
                append = counting_pb2.AppendRequest.FromString(payload)
                outcomes = [counting_pb2.OUTCOME_JOURNALED] * len(append.entries)
                answer = counting_pb2.AppendResponse(outcomes=outcomes)
            case _:
                batch = ingest_pb2.ProcessEventsRequest.FromString(payload)
                answer = ingest_pb2.ProcessEventsResponse(receipt=accept_batch(batch))
        return answer.SerializeToString()

    def handle(self, rpc: str) -> "grpc.RpcMethodHandler[bytes, bytes]":
        async def answer(payload: bytes, context: Context) -> bytes:
            await self.take(rpc, payload, context)
            return self.answer(rpc, payload)

        return grpc.unary_unary_rpc_method_handler(answer)

    def handle_stream(self) -> "grpc.RpcMethodHandler[bytes, bytes]":
        """Answers batches as they come, and refuses those whose first video is `refused`."""

        async def answer(payloads: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
            async for payload in payloads:
                try:
                    await self.take("StreamEvents", payload, context)
                except StopEarly:
                    return
                batch = ingest_pb2.StreamEventsRequest.FromString(payload).batch
                if self.refusals:
                    refusal = self.refusals.popleft()
                    refusal.request_id = batch.request_id
                    yield ingest_pb2.StreamEventsResponse(refusal=refusal).SerializeToString()
                elif batch.columns.video_ids[0] == "refused":
                    refusal = ingest_pb2.Refusal(
                        request_id=batch.request_id, code=8, reason="OVERLOADED", message="too much"
                    )
                    yield ingest_pb2.StreamEventsResponse(refusal=refusal).SerializeToString()
                else:
                    receipt = accept_batch(batch)
                    yield ingest_pb2.StreamEventsResponse(receipt=receipt).SerializeToString()

        return grpc.stream_stream_rpc_method_handler(answer)


def batch_of(received: Received) -> ingest_pb2.ProcessEventsRequest:
    """The batch of a request, be it a call of its own or a message on a stream."""
    if received.rpc == "StreamEvents":
        return ingest_pb2.StreamEventsRequest.FromString(received.payload).batch
    assert received.rpc == "ProcessEvents"
    return ingest_pb2.ProcessEventsRequest.FromString(received.payload)


def videos_of(received: Received) -> list[str]:
    """The video of each event of a batch, in order."""
    columns = batch_of(received).columns
    index = columns.video_index
    return [columns.video_ids[int.from_bytes(index[at : at + 2], "little")] for at in range(0, len(index), 2)]


def accept(request_id: str, count: int = 1) -> ingest_pb2.Receipt:
    return ingest_pb2.Receipt(
        request_id=request_id, accepted_count=count, durability=common_pb2.DURABILITY_JOURNALED
    )


def accept_batch(batch: ingest_pb2.ProcessEventsRequest) -> ingest_pb2.Receipt:
    return accept(batch.request_id, len(batch.columns.video_index) // 2)


def refuse(code: grpc.StatusCode, message: str = "no", *details: Message) -> Turn:
    """A turn that ends the call with a status and its details."""

    async def turn(_payload: bytes, context: Context) -> NoReturn:
        status = status_pb2.Status(code=code.value[0], message=message)
        for detail in details:
            packed = AnyMessage()
            packed.Pack(detail)
            status.details.append(packed)
        trailers = (("grpc-status-details-bin", status.SerializeToString()),) if details else ()
        await context.abort(code, message, trailers)

    return turn


def error_info(reason: str, **metadata: str) -> Message:
    info: Message = error_details_pb2.ErrorInfo(reason=reason, domain="tally", metadata=metadata)
    return info


def retry_after(delay_s: float) -> Message:
    delay = Duration()
    delay.FromNanoseconds(int(delay_s * 1e9))
    info: Message = error_details_pb2.RetryInfo(retry_delay=delay)
    return info


def bad_request(**violations: str) -> Message:
    details: Message = error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(field=name, description=text)
            for name, text in violations.items()
        ]
    )
    return details


async def pass_by(_payload: bytes, _context: Context) -> None:
    """A turn in which nothing happens."""


class Gate:
    """A turn that lasts until the gate is opened."""

    def __init__(self) -> None:
        self._open = asyncio.Event()

    async def __call__(self, _payload: bytes, _context: Context) -> None:
        await self._open.wait()

    def open(self) -> None:
        self._open.set()


async def never_answer(_payload: bytes, _context: Context) -> None:
    """A turn that lasts until the caller has given up."""
    await asyncio.Event().wait()


@asynccontextmanager
async def open_peer() -> AsyncIterator[Peer]:
    """A peer on a free port of the loopback."""
    peer = Peer()
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 16 * 1024 * 1024)])
    for service, rpcs in (
        (INGEST, ["CountEvent", "ProcessEvent", "ProcessEvents", "GetPartitionMap"]),
        (COUNTING, ["Append"]),
        (QUERY, ["GetViewsCount", "GetCount", "GetStats", "ListLogs", "Audit"]),
        (HEALTH, ["Check"]),
    ):
        handlers = {rpc: peer.handle(rpc) for rpc in rpcs}
        if service == INGEST:
            handlers["StreamEvents"] = peer.handle_stream()
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
    peer.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield peer
    finally:
        await server.stop(0)


@dataclass
class Proxy:
    """A connection between client and peer that can be cut."""

    address: str = ""
    is_shut: bool = False
    """new connections end at once"""
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def cut(self) -> None:
        """Reset every connection that there is; new ones are let through."""
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()


@asynccontextmanager
async def open_proxy(target: str) -> AsyncIterator[Proxy]:
    """A proxy on a free port before `target` (host:port)."""
    proxy = Proxy()
    host, _, port = target.rpartition(":")

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if proxy.is_shut:
            writer.close()
            return
        peer_reader, peer_writer = await asyncio.open_connection(host, int(port))
        proxy.writers += [writer, peer_writer]
        await asyncio.gather(pump(reader, peer_writer), pump(peer_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        proxy.cut()
        server.close()
        await server.wait_closed()
