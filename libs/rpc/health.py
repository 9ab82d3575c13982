"""The health of a server, for balancers and Kubernetes: `grpc.health.v1`."""

from collections.abc import Iterable
from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # it ships no types
from grpc_health.v1.health import aio as health_aio  # type: ignore[import-untyped]  # it ships no types

from libs.rpc.stopping import Stopped, Stopping

SERVICE_NAME: str = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


class Health:
    """Whether each service of a server is serving; the server as a whole ("") is when all of them are.

    Nothing is serving until it is said to be.
    """

    def __init__(self, names: Iterable[str], stopping: Stopping) -> None:
        # A server without services of its own, such as a worker's, is itself what serves.
        self._serving = dict.fromkeys(names, False) or {"": False}
        self._servicer = _Servicer(stopping)

    def register(self, server: Any) -> None:
        """Add the health service to a server that is not started yet."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def start(self) -> None:
        """Report NOT_SERVING for everything."""
        for name in {"", *self._serving}:
            await self._tell(name, serving=False)

    async def set_serving(self, name: str, serving: bool) -> None:
        """Report whether the service is serving; "" is a server without services.

        Raises KeyError for a service that this server does not have.
        """
        if self._serving[name] is serving:
            return
        self._serving[name] = serving
        if name:
            await self._tell(name, serving=serving)
        await self._tell("", serving=all(self._serving.values()))

    async def leave(self) -> None:
        """Report NOT_SERVING for everything, permanently."""
        await self._servicer.enter_graceful_shutdown()

    async def _tell(self, name: str, *, serving: bool) -> None:
        status = health_pb2.HealthCheckResponse
        await self._servicer.set(name, status.SERVING if serving else status.NOT_SERVING)


class _Servicer(health_aio.HealthServicer):  # type: ignore[misc]  # the base has no types
    """The library's, but its watchers do not hold up a server that stops."""

    def __init__(self, stopping: Stopping) -> None:
        super().__init__()
        self._stopping = stopping

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802 - the name is the protocol's
        try:
            await self._stopping.unless_stopped(super().Watch(request, context))
        except Stopped:
            return
