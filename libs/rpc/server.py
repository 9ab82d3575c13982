"""The one way to open a gRPC server, with health, reflection, a layer around each call and a graceful end."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
from grpc_reflection.v1alpha import (  # type: ignore[import-untyped]  # it ships no types
    reflection,
    reflection_pb2_grpc,
)
from pydantic import BaseModel, Field, field_validator

from libs.rpc import health as health_service
from libs.rpc import ports
from libs.rpc.admission import Admission
from libs.rpc.call_layer import CallLayer
from libs.rpc.health import Health
from libs.rpc.intake import Intake
from libs.rpc.security.access import RolesSettings, open_access
from libs.rpc.security.exposure import check_exposure
from libs.rpc.security.tls import ServerTlsSettings, open_server_credentials
from libs.rpc.stopping import Stopping
from libs.rpc.tracing import ServerTracing
from libs.telemetry.setup import OFF, Telemetry

_ADDRESS = re.compile(r"unix:.+|\S+:\d{1,5}")
# A stream may have begun when the grace did; the rest of it is for the answers to what was read.
_GRACE_OF_STREAMS = 0.8
_WINDOW_BYTES = 64 * 1024


class ServerSettings(BaseModel, frozen=True, extra="forbid"):
    """How a server listens, what it accepts, and how it stops."""

    address: str = Field(
        "127.0.0.1:50051",
        description="where to listen: `host:port`, `[v6]:port` or `unix:path`; port 0 takes a free one",
    )
    open: bool = Field(
        False,
        description="whether everybody who reaches a server at an address that is not this machine's own may do "
        "everything; else it needs TLS and roles to start",
    )
    health_address: str | None = Field(
        None,
        description="where to serve health alone, to everybody and without TLS, as the probes of Kubernetes need it; "
        "unset: nowhere",
    )
    tls: ServerTlsSettings = ServerTlsSettings()
    roles: RolesSettings = RolesSettings()
    max_message_mib: int = Field(
        16,
        ge=1,
        le=64,
        description="largest message that is received; requests above 8 MiB are refused with details, those above this "
        "by gRPC",
    )
    max_concurrent_rpcs: int = Field(
        2048, ge=1, description="calls at once beyond which more are refused, but not health checks"
    )
    max_request_streams: int = Field(
        256, ge=1, description="streams of requests at once beyond which more are refused"
    )
    max_connections: int = Field(
        1000, ge=1, description="connections at once beyond which more are closed at once"
    )
    max_receiving_rpcs: int = Field(
        6, ge=1, description="requests that are received at once; further calls wait, unread"
    )
    receive_timeout_seconds: float = Field(
        10.0,
        gt=0,
        le=300,
        description="time that a request may take to arrive while others wait to be received; they wait twice as long",
    )
    max_bytes_under_way: int = Field(
        64 * 1024 * 1024,
        ge=1,
        description="bytes of requests under way, in services without a bound of their own, before more are refused",
    )
    default_deadline_seconds: float = Field(
        30.0, gt=0, le=3600, description="deadline of a call that comes without one"
    )
    default_stream_deadline_seconds: float = Field(
        3600.0, gt=0, description="deadline of a stream that comes without one"
    )
    drain_delay_seconds: float = Field(
        0.0, ge=0, le=300, description="time between saying NOT_SERVING and refusing calls, for balancers"
    )
    grace_seconds: float = Field(
        10.0, ge=0, le=300, description="time that calls under way have to end when the server stops"
    )
    keepalive_seconds: float = Field(60.0, ge=5, description="time after which an idle connection is probed")
    keepalive_timeout_seconds: float = Field(
        10.0, gt=0, description="time without an answer to a probe that ends the connection"
    )
    min_client_ping_seconds: float = Field(
        5.0, ge=0, description="time between two probes of a client below which it is disconnected"
    )

    max_connection_age_seconds: float = Field(
        300.0,
        gt=0,
        description="age, give or take a tenth, at which a connection takes no new calls, so that clients spread anew",
    )
    max_connection_age_grace_seconds: float = Field(
        300.0,
        gt=0,
        description="time that its calls then have to end; a stream of requests is ended within most of it",
    )

    @field_validator("address", "health_address")
    @classmethod
    def _is_address(cls, address: str | None) -> str | None:
        if address is None:
            return None
        if not _ADDRESS.fullmatch(address):
            raise ValueError("must be host:port, [v6]:port or unix:path")
        if not address.startswith("unix:") and not ports.has_port(address):
            raise ValueError(f"has no such port as in {address}; the largest is {ports.LARGEST_PORT}")
        return address


@dataclass(frozen=True, slots=True)
class Servable:
    """A gRPC service: its full name, and the function that adds its servicer to a server.

    `admission` bounds the bytes of its requests under way; None: together with the server's other services.
    """

    name: str
    register: Callable[[grpc.aio.Server], None]
    admission: Admission | None = None


@dataclass(frozen=True, slots=True)
class OpenServer:
    """A server that listens: where, and what it reports of itself."""

    address: str
    health: Health
    saturation: Callable[[], Mapping[str, float]]
    """the used part of each of its bounds"""
    in_flight: Mapping[str, int]
    """calls being answered, by method; none with telemetry off"""


@asynccontextmanager
async def open_server(
    settings: ServerSettings, services: Iterable[Servable], *, telemetry: Telemetry = OFF
) -> AsyncIterator[OpenServer]:
    """A server that listens, every service NOT_SERVING until `health.set_serving` says otherwise.

    Leaving it: all NOT_SERVING, the drain delay, idle streams ended, the grace for what is under way. A
    cancellation meanwhile cuts delay and grace short. Raises NotReady when the address cannot be had, when files of
    certificates or callers cannot be read, and when others can reach the address and there is neither TLS nor roles.

    A unix socket has no TLS.
    """
    check_reach(settings)
    services = list(services)
    stopping = Stopping()
    health = Health([service.name for service in services], stopping)
    tracing = ServerTracing(telemetry) if telemetry.enabled else None
    layer = CallLayer(
        unary_deadline_s=settings.default_deadline_seconds,
        stream_deadline_s=settings.default_stream_deadline_seconds,
        max_stream_age_s=_GRACE_OF_STREAMS * settings.max_connection_age_grace_seconds,
        max_concurrent=settings.max_concurrent_rpcs,
        max_streams=settings.max_request_streams,
        intake=Intake(settings.max_receiving_rpcs, settings.receive_timeout_seconds),
        stopping=stopping,
        tracing=tracing,
        access=open_access(settings.roles),
    )
    server = grpc.aio.server(options=_options(settings))
    admission = Admission(settings.max_bytes_under_way)
    of_grpc = layer.in_front_of_grpc(server)
    health.register(of_grpc)  # first: gRPC asks handlers in this order, and a service may answer every method
    for service in services:
        service.register(layer.in_front_of(server, service.admission or admission))
    names = [*(service.name for service in services), health_service.SERVICE_NAME, reflection.SERVICE_NAME]
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(
        reflection.aio.ReflectionServicer(names), of_grpc
    )
    address = _bind(server, settings)
    async with _open_health(settings, health):
        try:
            await health.start()
            await server.start()
            in_flight = tracing.in_flight if tracing else {}
            yield OpenServer(address, health, lambda: layer.saturation, in_flight)
        finally:
            await _leave(server, health, stopping, settings)


@asynccontextmanager
async def _open_health(settings: ServerSettings, health: Health) -> AsyncIterator[None]:
    """Serve health by itself, if it is set, until the other server has stopped."""
    if settings.health_address is None:
        yield
        return
    server = grpc.aio.server(options=_options(settings))
    health.register(server)
    _add_insecure(server, settings.health_address)
    try:
        await server.start()
        yield
    finally:
        await server.stop(None)


def check_reach(settings: ServerSettings) -> None:
    """Raises NotReady for an address that others can reach, without TLS or roles, unless it is said to be open."""
    check_exposure(
        settings.address,
        has_tls=settings.tls.is_on,
        has_roles=settings.roles.is_on,
        is_open=settings.open,
    )


def _options(settings: ServerSettings) -> list[tuple[str, int]]:
    max_message_bytes = settings.max_message_mib * 1024 * 1024
    return [
        ("grpc.so_reuseport", 0),  # with it two processes share a port, and each gets half of the calls
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        # What the bounds of `Intake` rest on: gRPC holds no more than a window of a request that is not read.
        ("grpc.http2.lookahead_bytes", _WINDOW_BYTES),
        ("grpc.http2.bdp_probe", 0),  # it would widen the windows by itself
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.keepalive_time_ms", int(settings.keepalive_seconds * 1000)),
        ("grpc.keepalive_timeout_ms", int(settings.keepalive_timeout_seconds * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", int(settings.min_client_ping_seconds * 1000)),
        ("grpc.max_connection_age_ms", int(settings.max_connection_age_seconds * 1000)),
        ("grpc.max_connection_age_grace_ms", int(settings.max_connection_age_grace_seconds * 1000)),
    ]


def _bind(server: grpc.aio.Server, settings: ServerSettings) -> str:
    address = settings.address
    if not settings.tls.is_on or address.startswith("unix:"):
        return _add_insecure(server, address)
    credentials = open_server_credentials(settings.tls)
    ports.check_free(address)
    try:
        port = server.add_secure_port(address, credentials)
    except RuntimeError as error:  # taken between the check and now
        raise ports.explain_taken(address, error) from error
    return f"{address.rpartition(':')[0]}:{port}"


def _add_insecure(server: grpc.aio.Server, address: str) -> str:
    ports.check_free(address)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:  # taken between the check and now
        raise ports.explain_taken(address, error) from error
    return address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"


async def _leave(
    server: grpc.aio.Server, health: Health, stopping: Stopping, settings: ServerSettings
) -> None:
    async def drain() -> None:
        await health.leave()
        await asyncio.sleep(settings.drain_delay_seconds)
        stopping.begin()
        await server.stop(settings.grace_seconds)

    # a task of its own, because a cancellation inside `stop` would leave gRPC half stopped
    draining = asyncio.create_task(drain())
    try:
        await asyncio.shield(draining)
    except asyncio.CancelledError:
        await server.stop(None)
        draining.cancel()
        raise
