"""Asking another server whether it serves: `grpc.health.v1.Health/Check`."""

from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # it ships no types

from libs.rpc.channel import connect
from libs.rpc.security.tls import NO_TLS, ChannelTlsSettings

_SERVING: int = health_pb2.HealthCheckResponse.SERVING
_NO_ANSWER = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
)


class NoAnswer(Exception):
    """Nothing was said: refused, cut off, or silent."""


class Probe:
    """Asks over one channel for one service."""

    def __init__(self, channel: grpc.aio.Channel, service: str) -> None:
        self._check: Any = health_pb2_grpc.HealthStub(channel).Check  # the stubs have no types
        self._request = health_pb2.HealthCheckRequest(service=service)

    async def is_serving(self, timeout_s: float) -> bool:
        """The server's answer; a server without the service is not serving it. Raises NoAnswer."""
        try:
            response = await self._check(self._request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            if error.code() in _NO_ANSWER:
                raise NoAnswer(f"{error.code().name}: {error.details()}") from error
            return False
        # None stands for a response that does not parse.
        return response is not None and bool(response.status == _SERVING)


async def is_serving(address: str, service: str, timeout_s: float, tls: ChannelTlsSettings = NO_TLS) -> bool:
    """Whether the server at `address` answers within the time, and says that `service` is serving."""
    async with connect(address, tls, [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            return await Probe(channel, service).is_serving(timeout_s)
        except NoAnswer:
            return False
