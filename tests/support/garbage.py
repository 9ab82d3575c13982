"""A shard that is well by its health checks, and answers entries with garbage."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import grpc

from libs.rpc.health import Health
from libs.rpc.stopping import Stopping
from tally.counting.v1.counting_pb2 import AppendRequest, AppendResponse

_COUNTING = "tally.counting.v1.CountingService"

Context: TypeAlias = grpc.aio.ServicerContext[AppendRequest, bytes]
Answer: TypeAlias = Callable[[AppendRequest, Context], Awaitable[bytes]]


async def fail(_: AppendRequest, context: Context) -> bytes:
    await context.abort(grpc.StatusCode.INTERNAL, "out of its mind")


async def cancel(_: AppendRequest, context: Context) -> bytes:
    await context.abort(grpc.StatusCode.CANCELLED, "by the shard, not by who called")


async def say_nothing_that_parses(_: AppendRequest, __: Context) -> bytes:
    return b"\xff"


async def say_nothing(_: AppendRequest, __: Context) -> bytes:
    return b""


async def say_what_nobody_knows(request: AppendRequest, _: Context) -> bytes:
    return AppendResponse(outcomes=[99] * len(request.entries)).SerializeToString()  # type: ignore[list-item]


ANSWERS: tuple[Answer, ...] = (fail, cancel, say_nothing_that_parses, say_nothing, say_what_nobody_knows)


@asynccontextmanager
async def open_garbage_shard(answer: Answer) -> AsyncIterator[str]:
    """Serve it at a free port; its address."""
    server = grpc.aio.server()
    append: grpc.RpcMethodHandler[AppendRequest, bytes] = grpc.unary_unary_rpc_method_handler(
        answer, request_deserializer=AppendRequest.FromString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_COUNTING, {"Append": append}),))
    health = Health([_COUNTING], Stopping())
    health.register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await health.start()
    await server.start()
    await health.set_serving(_COUNTING, serving=True)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
