"""A gRPC server for faults: it serves any services of the descriptors, and does with each call what the test says.

    async with open_peer("tally.counting.v1.CountingService") as peer:
        peer.answers["GetCluster"] = GetClusterResponse(cluster=identity)
        peer.answers["Append"] = garbage
        peer.turns += [refuse(grpc.StatusCode.UNAVAILABLE), delay(0.5), never_answer]

Every rpc answers with an empty message until the test says otherwise. To drop the connection of a call, put a relay in
front (`tests/support/relay.py`), whose `drop` is a behaviour too.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias, TypeVar

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import status_pb2  # type: ignore[import-untyped]  # it ships no types

from libs.rpc.health import Health
from libs.rpc.stopping import Stopping

P = TypeVar("P", bound="Peer")

ANY = "*"
"""any rpc without an answer of its own"""

_MAX_MESSAGE_BYTES = 16 * 1024 * 1024

Context: TypeAlias = grpc.aio.ServicerContext[bytes, bytes]
Behaviour: TypeAlias = Callable[[bytes, Context], Awaitable[Message | bytes | None]]
"""What happens to a request, given as its bytes, and the answer; None: what it would be without this."""


class StopEarly(Exception):
    """Raised by a behaviour: end the stream here, with success."""


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came: the name of the rpc, the bytes, and when (monotonic seconds)."""

    rpc: str
    payload: bytes
    at: float


@dataclass(eq=False)
class Peer(grpc.GenericRpcHandler):
    """What it received, and what it does.

    `turns`: what happens to the next requests, of whichever rpc, one each. `once`: by rpc, what happens to its next
    request. `answers`: by rpc, or ANY, what it answers or does. A call that none of these answers is forwarded if the
    peer stands in front of a server, and otherwise answered with an empty message.
    """

    services: tuple[str, ...] = ()
    address: str = ""
    received: list[Received] = field(default_factory=list)
    turns: deque[Behaviour] = field(default_factory=deque)
    once: dict[str, Behaviour] = field(default_factory=dict)
    answers: dict[str, Message | bytes | Behaviour] = field(default_factory=dict)
    target: grpc.aio.Channel | None = None
    health: Health | None = None

    def service(self, handler_call_details: Any) -> Any:
        """gRPC's question for the handler of a path."""
        path: str = handler_call_details.method
        service, _, rpc = path.removeprefix("/").rpartition("/")
        if self.services and service not in self.services:
            return None
        try:
            method = descriptor_pool.Default().FindMethodByName(f"{service}.{rpc}")
        except KeyError:
            return None

        async def answer(payload: bytes, context: Context) -> bytes:
            return await self._answer(path, payload, context)

        async def answer_all(payloads: AsyncIterator[bytes], context: Context) -> AsyncGenerator[bytes, None]:
            try:
                async for payload in payloads:
                    yield await answer(payload, context)
            except StopEarly:
                return

        if method.client_streaming:
            return grpc.stream_stream_rpc_method_handler(answer_all)
        return grpc.unary_unary_rpc_method_handler(answer)

    async def _answer(self, path: str, payload: bytes, context: Context) -> bytes:
        rpc = path.rpartition("/")[2]
        self.received.append(Received(rpc, payload, time.monotonic()))
        turn = self.once.pop(rpc, None) or (self.turns.popleft() if self.turns else None)
        answer = None if turn is None else await turn(payload, context)
        if answer is None:
            standing = self.answers.get(rpc, self.answers.get(ANY))
            answer = await standing(payload, context) if callable(standing) else standing
        if answer is None:
            answer = None if self.target is None else await self.forward(path, payload)
        return encode(answer)

    async def forward(self, path: str, payload: bytes) -> bytes:
        """The answer of the server in front of which it stands, to a call with a single request."""
        assert self.target is not None, "open it with a target"
        send: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self.target.unary_unary(path)
        return await send(payload, timeout=10.0)

    async def set_serving(self, service: str, serving: bool) -> None:
        """What its health says of a service."""
        assert self.health is not None, "open it with health"
        await self.health.set_serving(service, serving)


def encode(answer: Message | bytes | None) -> bytes:
    """An answer as it is sent; None: an empty message."""
    return answer.SerializeToString() if isinstance(answer, Message) else answer or b""


def refuse(code: grpc.StatusCode, message: str = "no", *details: Message) -> Behaviour:
    """Ends the call with a status and its details."""

    async def behave(_payload: bytes, context: Context) -> NoReturn:
        status = status_pb2.Status(code=code.value[0], message=message)
        for detail in details:
            packed = AnyMessage()
            packed.Pack(detail)
            status.details.append(packed)
        trailers = (("grpc-status-details-bin", status.SerializeToString()),) if details else ()
        await context.abort(code, message, trailers)

    return behave


def delay(seconds: float) -> Behaviour:
    """Answers later."""

    async def behave(_payload: bytes, _context: Context) -> None:
        await asyncio.sleep(seconds)

    return behave


async def pass_by(_payload: bytes, _context: Context) -> None:
    """Nothing happens."""


async def never_answer(_payload: bytes, _context: Context) -> None:
    """Lasts until the caller has given up."""
    await asyncio.Event().wait()


async def garbage(_payload: bytes, _context: Context) -> bytes:
    """Answers with bytes that are no message."""
    return b"\xff"


async def end_stream(_payload: bytes, _context: Context) -> NoReturn:
    """Ends the stream with success."""
    raise StopEarly


class Gate:
    """A behaviour that lasts until the gate is opened."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self.arrived = asyncio.Event()
        """set when a call is at the gate"""

    async def __call__(self, _payload: bytes, _context: Context) -> None:
        self.arrived.set()
        await self._open.wait()

    def open(self) -> None:
        self._open.set()


@asynccontextmanager
async def open_peer(*services: str, health: bool = False, target: str | None = None) -> AsyncIterator[Peer]:
    """A peer that serves these services, or any when none is named, on a free port of the loopback.

    `health`: it answers health checks, and says that all of its services are serving. `target`: the server in front of
    which it stands.
    """
    peer = Peer(services)
    async with AsyncExitStack() as stack:
        if target is not None:
            peer.target = await stack.enter_async_context(grpc.aio.insecure_channel(target))
        if health:
            peer.health = Health(services, Stopping())
        yield await stack.enter_async_context(serve_peer(peer))


@asynccontextmanager
async def serve_peer(peer: P) -> AsyncIterator[P]:
    """Serve a peer on a free port of the loopback."""
    server = grpc.aio.server(
        options=[("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES), ("grpc.so_reuseport", 0)]
    )
    if peer.health is not None:
        peer.health.register(server)
        await peer.health.start()
        for service in peer.services:
            await peer.set_serving(service, True)
    server.add_generic_rpc_handlers((peer,))
    peer.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield peer
    finally:
        await server.stop(None)
