"""What the front proxy must and must not do, read from its configuration."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from libs.embedded.envoy_config import (
    CONNECTION_WINDOW_BYTES,
    STREAM_WINDOW_BYTES,
    Pool,
    ProxyTls,
    make_config,
)

PARTITIONERS = Pool(
    "partitioner",
    ["127.0.0.1:1", "127.0.0.1:2"],
    "tally.ingest.v1.IngestService",
    ["tally.ingest.v1.IngestService"],
)
QUERIES = Pool("query", ["[::1]:3"], "tally.query.v1.QueryService", ["tally.query.v1.QueryService"])


@pytest.fixture
def config() -> dict[str, Any]:
    return make_config("127.0.0.1:50051", [PARTITIONERS, QUERIES], "/tmp/admin.sock")  # noqa: S108 - only a name


def find(tree: Any, key: str) -> Iterator[Any]:
    """Every value of `key`, wherever it stands."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            if name == key:
                yield value
            yield from find(value, key)
    elif isinstance(tree, list):
        for each in tree:
            yield from find(each, key)


def routes(config: dict[str, Any]) -> list[dict[str, Any]]:
    (found,) = find(config, "routes")
    return list(found)


def test_nothing_retries_and_only_the_callers_deadline_ends_a_call(config: dict[str, Any]) -> None:
    assert "retry" not in json.dumps(config)
    for route in routes(config):
        assert route["route"]["timeout"] == "0s"
        assert route["route"]["max_stream_duration"] == {"grpc_timeout_header_max": "0s"}
    assert list(find(config, "stream_idle_timeout")) == ["0s"]


def test_calls_go_where_the_name_of_their_service_says_and_nowhere_else(config: dict[str, Any]) -> None:
    found = [
        (route["match"]["prefix"], route["route"]["cluster"])
        for route in routes(config)
        if "headers" not in route["match"]
    ]
    assert found == [
        ("/tally.ingest.v1.IngestService/", "partitioner"),
        ("/tally.query.v1.QueryService/", "query"),
        ("/grpc.health.v1.Health/", "partitioner"),
        ("/grpc.reflection.", "partitioner"),
    ]


def test_the_admin_interface_listens_on_no_port(config: dict[str, Any]) -> None:
    assert config["admin"]["address"] == {"pipe": {"path": "/tmp/admin.sock", "mode": 0o600}}  # noqa: S108 - only a name
    ports = sorted(each["port_value"] for each in find(config, "socket_address"))
    assert ports == [1, 2, 3, 50051]


def test_an_ipv6_address_loses_its_brackets(config: dict[str, Any]) -> None:
    assert {"address": "::1", "port_value": 3} in find(config, "socket_address")


def test_each_pool_asks_for_the_health_of_its_own_service(config: dict[str, Any]) -> None:
    assert [each["service_name"] for each in find(config, "grpc_health_check")] == [
        PARTITIONERS.health_service,
        QUERIES.health_service,
    ]


def test_an_answer_never_puts_a_server_out_however_bad(config: dict[str, Any]) -> None:
    for detection in find(config, "outlier_detection"):
        enforced = {name for name, value in detection.items() if name.startswith("enforcing") and value}
        assert enforced == {"enforcing_consecutive_local_origin_failure"}
        assert detection["split_external_local_origin_errors"]


def test_what_waits_for_a_slow_reader_is_bounded(config: dict[str, Any]) -> None:
    assert list(find(config, "initial_stream_window_size")) == [STREAM_WINDOW_BYTES] * 3
    assert list(find(config, "initial_connection_window_size")) == [CONNECTION_WINDOW_BYTES] * 3
    assert len(list(find(config, "max_active_downstream_connections"))) == 1
    assert len(list(find(config, "max_requests"))) == 2


def test_what_is_known_of_a_server_reaches_the_workers_at_once(config: dict[str, Any]) -> None:
    """By default Envoy holds back changes that come within a second of another one."""
    assert list(find(config, "update_merge_window")) == ["0s", "0s"]
    assert list(find(config, "healthy_panic_threshold")) == [{"value": 0}] * 2


def test_without_tls_no_name_is_forwarded(config: dict[str, Any]) -> None:
    """Envoy's default drops the header that a client sends (SANITIZE)."""
    assert not list(find(config, "transport_socket"))
    assert not list(find(config, "forward_client_cert_details"))


def test_with_tls_names_are_made_here_and_servers_are_checked() -> None:
    tls = ProxyTls("ca.pem", "front.pem", "front.key", "tally")
    config = make_config("127.0.0.1:50051", [PARTITIONERS, QUERIES], "admin.sock", tls)
    downstream, *upstream = [each["typed_config"] for each in find(config, "transport_socket")]
    assert list(find(config, "forward_client_cert_details")) == ["SANITIZE_SET"]
    assert downstream["require_client_certificate"] is False
    assert downstream["common_tls_context"]["validation_context"] == {"trusted_ca": {"filename": "ca.pem"}}
    assert len(upstream) == 2
    for each in upstream:
        validation = each["common_tls_context"]["validation_context"]
        assert validation["trusted_ca"] == {"filename": "ca.pem"}
        assert validation["match_typed_subject_alt_names"][0]["matcher"] == {"exact": "tally"}
