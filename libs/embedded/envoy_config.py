"""Envoy's configuration, made from addresses: a front proxy for gRPC that routes by the name of the service.

Pure. A comment explains each choice; the reference is
https://www.envoyproxy.io/docs/envoy/latest/api-v3/api
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MIB = 1024 * 1024
HEALTH_CHECK_SECONDS = 0.5
"""Time between two health checks. A server that stops must say NOT_SERVING for longer than that, and than one check
takes, before it refuses calls."""
HEALTH_CHECK_TIMEOUT_SECONDS = 1.0
STREAM_WINDOW_BYTES = MIB
CONNECTION_WINDOW_BYTES = 4 * MIB
MAX_CONNECTIONS = 1_000
# Above what the servers take, so that a caller gets their answer, with a delay in it, and not the balancer's.
MAX_CALLS = 16_384

_HTTP_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_LEAST_REQUEST = "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest"
_CONNECTION_LIMIT = "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
_TLS = "envoy.extensions.transport_sockets.tls.v3"
_ROUTER = "envoy.extensions.filters.http.router.v3.Router"
_LUA = "envoy.extensions.filters.http.lua.v3.Lua"

_HEALTH_PATH = "/grpc.health.v1.Health/"
_HEALTH_HEADER = "x-tally-health-of"
# Whose health is asked for stands in the message, and routes know only paths and headers. The message is a few bytes,
# and complete when it is here: both methods take one.
_READ_HEALTH_SERVICE = f"""
function envoy_on_request(handle)
  handle:headers():remove("{_HEALTH_HEADER}")
  if string.find(handle:headers():get(":path"), "{_HEALTH_PATH}", 1, true) ~= 1 then return end
  local body = handle:body()
  if body == nil or body:length() < 8 then return end
  local name = string.match(body:getBytes(0, body:length()), "tally%.%w+%.v1%.%w+")
  if name == nil then return end
  handle:headers():add("{_HEALTH_HEADER}", name)
  handle:clearRouteCache()
end
"""


@dataclass(frozen=True, slots=True)
class Pool:
    """Servers that are alike."""

    name: str
    addresses: Sequence[str]
    """host:port of each"""
    health_service: str
    """the service that a server must report as SERVING to get calls"""
    services: Sequence[str]
    """the gRPC services whose calls go to these servers, by their full names; nothing else reaches them"""


@dataclass(frozen=True, slots=True)
class ProxyTls:
    """TLS towards clients and towards servers, with files in PEM."""

    ca: str
    """the authorities of clients' and servers' certificates"""
    certificate: str
    key: str
    server_name: str
    """a name that the certificates of all servers have"""


def make_config(
    address: str, pools: Sequence[Pool], admin: str, tls: ProxyTls | None = None
) -> dict[str, Any]:
    """A front proxy at `address` (ip:port) for `pools`, with the admin interface on the unix socket `admin`.

    Health is asked of the pool that has the service, else of the first, like reflection. With `tls` a client may show a
    certificate; its name goes to the servers, and so does a token, as it is.
    """
    return {
        "admin": {"address": {"pipe": {"path": admin, "mode": 0o600}}},
        "static_resources": {
            "listeners": [_make_listener(address, pools, tls)],
            "clusters": [_make_cluster(pool, tls) for pool in pools],
        },
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": _typed(
                        _CONNECTION_LIMIT, max_active_downstream_connections=MAX_CONNECTIONS
                    ),
                }
            ]
        },
    }


def _make_listener(address: str, pools: Sequence[Pool], tls: ProxyTls | None) -> dict[str, Any]:
    manager = _typed(
        _HTTP_MANAGER,
        stat_prefix="front",
        codec_type="HTTP2",
        http2_protocol_options=_http2(),
        # A stream may be silent for long: its end is the affair of the servers.
        stream_idle_timeout="0s",
        # After a GOAWAY on a connection, calls that were already sent may still arrive on it.
        drain_timeout="0.5s",
        generate_request_id=False,
        server_header_transformation="PASS_THROUGH",
        use_remote_address=True,
        # Servers believe this header when it comes from here: what a client sends as one is dropped either way.
        **({} if tls is None else _forward_names()),
        route_config={
            "name": "front",
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": _make_routes(pools)}],
        },
        http_filters=[
            {
                "name": "envoy.filters.http.lua",
                "typed_config": _typed(_LUA, default_source_code={"inline_string": _READ_HEALTH_SERVICE}),
            },
            {
                "name": "envoy.filters.http.router",
                "typed_config": _typed(_ROUTER, suppress_envoy_headers=True),
            },
        ],
    )
    return {
        "name": "front",
        "address": _make_address(address),
        # With it two balancers would share the port, and each get half of the connections.
        "enable_reuse_port": False,
        "per_connection_buffer_limit_bytes": MIB,
        "filter_chains": [
            {
                "filters": [
                    {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
                ],
                **({} if tls is None else {"transport_socket": _take_tls(tls)}),
            }
        ],
    }


def _forward_names() -> dict[str, Any]:
    """The header x-forwarded-client-cert, with the subject of the client's certificate."""
    return {
        "forward_client_cert_details": "SANITIZE_SET",
        "set_current_client_cert_details": {"subject": True},
    }


def _take_tls(tls: ProxyTls) -> dict[str, Any]:
    """A client need not have a certificate, for it may have a token; one that it shows must be good."""
    context = _typed(
        f"{_TLS}.DownstreamTlsContext", require_client_certificate=False, common_tls_context=_show(tls)
    )
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def _make_tls(tls: ProxyTls) -> dict[str, Any]:
    context = _show(tls)
    context["validation_context"]["match_typed_subject_alt_names"] = [
        {"san_type": "DNS", "matcher": {"exact": tls.server_name}}
    ]
    upstream = _typed(f"{_TLS}.UpstreamTlsContext", common_tls_context=context, sni=tls.server_name)
    return {"name": "envoy.transport_sockets.tls", "typed_config": upstream}


def _show(tls: ProxyTls) -> dict[str, Any]:
    return {
        "alpn_protocols": ["h2"],
        "tls_certificates": [
            {"certificate_chain": {"filename": tls.certificate}, "private_key": {"filename": tls.key}}
        ],
        "validation_context": {"trusted_ca": {"filename": tls.ca}},
    }


def _make_routes(pools: Sequence[Pool]) -> list[dict[str, Any]]:
    routes = []
    for pool in pools:
        for service in pool.services:
            asked = {"name": _HEALTH_HEADER, "string_match": {"exact": service}}
            routes.append(_make_route({"prefix": f"/{service}/"}, pool))
            routes.append(_make_route({"prefix": _HEALTH_PATH, "headers": [asked]}, pool))
    routes += [_make_route({"prefix": prefix}, pools[0]) for prefix in (_HEALTH_PATH, "/grpc.reflection.")]
    return routes  # everything else is UNIMPLEMENTED


def _make_route(match: dict[str, Any], pool: Pool) -> dict[str, Any]:
    """There is no retry policy, on purpose: the caller retries, under the same request id and within its deadline and
    its retry budget. A balancer that retried as well would multiply the load of a cluster that has too much already."""
    return {
        "match": match,
        "route": {
            "cluster": pool.name,
            # The only time limit is the caller's own, in grpc-timeout.
            "timeout": "0s",
            "max_stream_duration": {"grpc_timeout_header_max": "0s"},
        },
    }


def _make_cluster(pool: Pool, tls: ProxyTls | None) -> dict[str, Any]:
    endpoints = [{"endpoint": {"address": _make_address(address)}} for address in pool.addresses]
    protocol = _typed(_HTTP_OPTIONS, explicit_http_config={"http2_protocol_options": _http2()})
    return {
        "name": pool.name,
        "type": "STATIC",
        **({} if tls is None else {"transport_socket": _make_tls(tls)}),
        "connect_timeout": "1s",
        "per_connection_buffer_limit_bytes": MIB,
        "typed_extension_protocol_options": {_HTTP_OPTIONS: protocol},
        "load_assignment": {"cluster_name": pool.name, "endpoints": [{"lb_endpoints": endpoints}]},
        "load_balancing_policy": _balance(),
        "common_lb_config": {
            # When no server is healthy, fail at once instead of routing to a frozen or dead server.
            "healthy_panic_threshold": {"value": 0},
            # Else the second change within a second reaches the workers only at its end.
            "update_merge_window": "0s",
        },
        "health_checks": [_check_health(pool)],
        "outlier_detection": _detect_dead(),
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": MAX_CONNECTIONS,
                    "max_pending_requests": MAX_CALLS,
                    "max_requests": MAX_CALLS,
                }
            ]
        },
    }


def _balance() -> dict[str, Any]:
    """Least request: a call goes to the server with the fewest calls under way, of all of them.

    Requests cost very different amounts: one event, or 5,000. In turn (round robin), a server would get its share
    whether it is done with the last ones or not, and a frozen or slow one would hold up every second call. Calls under
    way are what shows that. So a frozen server gets only as many as the others have under way, until its health checks
    fail. The weakness of it, that a server which fails at once looks idle, is what `_detect_dead` is for.
    """
    policy = _typed(_LEAST_REQUEST, selection_method="FULL_SCAN")
    name = "envoy.load_balancing_policies.least_request"
    return {"policies": [{"typed_extension_config": {"name": name, "typed_config": policy}}]}


def _check_health(pool: Pool) -> dict[str, Any]:
    """Ask each server for the health of its service. NOT_SERVING counts at once, silence the second time.

    A server that leaves keeps its connections: calls under way on them end well.
    """
    interval = f"{HEALTH_CHECK_SECONDS}s"
    return {
        "timeout": f"{HEALTH_CHECK_TIMEOUT_SECONDS}s",
        "interval": interval,
        "no_traffic_interval": interval,  # else a minute
        "no_traffic_healthy_interval": interval,
        "unhealthy_threshold": 2,
        "healthy_threshold": 1,
        "grpc_health_check": {"service_name": pool.health_service},
    }


def _detect_dead() -> dict[str, Any]:
    """Leave a server alone that cannot be connected to, or cuts connections, until a health check of it succeeds.

    Only these count, and no answer does: while Postgres is unreachable every server answers UNAVAILABLE, and to eject
    some of them would only reduce the capacity.
    """
    return {
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": 1,
        "enforcing_consecutive_local_origin_failure": 100,
        "enforcing_local_origin_success_rate": 0,
        "enforcing_consecutive_5xx": 0,
        "enforcing_consecutive_gateway_failure": 0,
        "enforcing_success_rate": 0,
        "enforcing_failure_percentage": 0,
        "interval": "0.5s",
        "base_ejection_time": "1s",
        "max_ejection_time": "1s",
        "max_ejection_percent": 100,
        "successful_active_health_check_uneject_host": True,
    }


def _http2() -> dict[str, Any]:
    """Windows bound what is kept for a reader that is slower than its writer; a request of 8 MiB flows through them."""
    return {
        "max_concurrent_streams": 1024,
        "initial_stream_window_size": STREAM_WINDOW_BYTES,
        "initial_connection_window_size": CONNECTION_WINDOW_BYTES,
    }


def _make_address(address: str) -> dict[str, Any]:
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}


def _typed(name: str, **fields: Any) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/{name}", **fields}
