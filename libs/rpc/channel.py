"""Channels to other services: balanced, kept alive, and retried by gRPC's own policy."""

import json
from collections.abc import Sequence

import grpc
from pydantic import BaseModel, Field

from libs.rpc.renewing import RenewingChannel
from libs.rpc.security.tls import ChannelTlsSettings, watch_channel_credentials


class ChannelSettings(BaseModel, frozen=True, extra="forbid"):
    """How a service reaches another one."""

    max_message_mib: int = Field(9, ge=1, le=64, description="largest message sent or received")
    max_attempts: int = Field(
        4, ge=1, le=5, description="attempts that gRPC makes of a call that meets UNAVAILABLE; 1: no retries"
    )
    initial_backoff_seconds: float = Field(
        0.05, ge=0.001, le=10, description="longest wait before the first retry"
    )
    max_backoff_seconds: float = Field(1.0, ge=0.001, le=60, description="longest wait before any retry")
    keepalive_seconds: float = Field(30.0, ge=5, description="time after which an idle connection is probed")
    keepalive_timeout_seconds: float = Field(
        5.0, gt=0, description="time without an answer to a probe that ends the connection"
    )
    connect_timeout_seconds: float = Field(5.0, ge=0.1, description="longest attempt to connect")
    reconnect_max_seconds: float = Field(2.0, ge=0.1, description="longest wait between attempts to connect")
    health_service: str | None = Field(
        None, description="use only servers that report this service as serving; unset: any server"
    )
    tls: ChannelTlsSettings = ChannelTlsSettings()


def open_channel(address: str, settings: ChannelSettings) -> grpc.aio.Channel:
    """A channel to `address`: `host:port`, or with a gRPC scheme (`dns:///…`, `ipv4:a:1,b:1`, `unix:…`).

    It connects when it is first used. The caller closes it, or uses it as an async context manager. Raises NotReady for
    certificates that cannot be read.
    """
    max_message_bytes = settings.max_message_mib * 1024 * 1024
    return connect(
        address,
        settings.tls,
        [
            ("grpc.service_config", json.dumps(service_config(settings))),
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", max_message_bytes),
            # What is larger than gRPC's 256 KiB would silently never be sent again.
            ("grpc.per_rpc_retry_buffer_size", max_message_bytes),
            ("grpc.keepalive_time_ms", int(settings.keepalive_seconds * 1000)),
            ("grpc.keepalive_timeout_ms", int(settings.keepalive_timeout_seconds * 1000)),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.initial_reconnect_backoff_ms", 100),
            # despite its name, the time that one attempt to connect may take
            ("grpc.min_reconnect_backoff_ms", int(settings.connect_timeout_seconds * 1000)),
            ("grpc.max_reconnect_backoff_ms", int(settings.reconnect_max_seconds * 1000)),
            # gRPC looks a name up again when a connection fails, but by itself only once in 30 s
            ("grpc.dns_min_time_between_resolutions_ms", int(settings.reconnect_max_seconds * 1000)),
            ("grpc.enable_http_proxy", 0),  # services are near; http_proxy is meant for what is far
        ],
    )


def connect(
    address: str, tls: ChannelTlsSettings, options: Sequence[tuple[str, str | int]]
) -> grpc.aio.Channel:
    """A channel with TLS if it is set, and renewed when its certificates are; a unix socket has none."""
    if not tls.is_on or address.startswith("unix:"):
        return grpc.aio.insecure_channel(address, options=options)
    if tls.server_name is not None:
        options = [*options, ("grpc.ssl_target_name_override", tls.server_name)]
    return RenewingChannel(
        watch_channel_credentials(tls),
        lambda credentials: grpc.aio.secure_channel(address, credentials, options=options),
    )


def service_config(settings: ChannelSettings) -> dict[str, object]:
    """gRPC's service config (https://github.com/grpc/grpc/blob/master/doc/service_config.md).

    It sets no `timeout`, which gRPC in Python applies seconds too late: each call has its own deadline.
    gRPC waits a random part of each back-off. Retries stop while more than half of the recent calls failed. What no
    server has begun to handle, as when a connection ends by its age, gRPC sends again even without a policy.
    """
    config: dict[str, object] = {"loadBalancingConfig": [{"round_robin": {}}]}
    if settings.max_attempts > 1:
        policy = {
            "maxAttempts": settings.max_attempts,
            "initialBackoff": f"{settings.initial_backoff_seconds:g}s",
            "maxBackoff": f"{settings.max_backoff_seconds:g}s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE"],
        }
        config["methodConfig"] = [{"name": [{}], "retryPolicy": policy}]
        config["retryThrottling"] = {"maxTokens": 100, "tokenRatio": 0.1}
    if settings.health_service is not None:
        config["healthCheckConfig"] = {"serviceName": settings.health_service}
    return config
