"""A proxy for any unary rpc, in front of a running Tally, that a test may make misbehave."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

Forward = Callable[[bytes], Awaitable[bytes]]
Fault = Callable[[str, bytes, Forward, Any], Awaitable[bytes]]
"""Answers a request: the rpc's path, the request, what sends it on, and the call's context."""


@asynccontextmanager
async def open_door(target: str, fault: Fault) -> AsyncIterator[str]:
    """Yields the address of a server that passes each call to `target` by way of `fault`."""
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    async with grpc.aio.insecure_channel(target) as channel:
        server.add_generic_rpc_handlers((_Proxy(channel, fault),))
        await server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            await server.stop(None)


class _Proxy(grpc.GenericRpcHandler):
    def __init__(self, channel: grpc.aio.Channel, fault: Fault) -> None:
        self._channel = channel
        self._fault = fault

    def service(self, handler_call_details: Any) -> Any:
        path: str = handler_call_details.method

        async def forward(request: bytes) -> bytes:
            send: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(path)
            return await send(request, timeout=10.0)

        async def answer(request: bytes, context: Any) -> bytes:
            return await self._fault(path, request, forward, context)

        return grpc.unary_unary_rpc_method_handler(answer)
