"""Names that must agree: selectors, ports, gRPC services, Secrets, commands."""

import json
import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import pytest

from services.monitoring.dashboards import make_dashboards
from services.monitoring.rules import make_rules
from services.registry import BY_NAME, SERVICES
from tests.k8s.render import Choice, Manifest
from tests.k8s.workloads import (
    Workload,
    find,
    is_held,
    list_references,
    list_workloads,
    read_environment,
)

BROUGHT_BY_OTHERS = {("Secret", name) for name in ("postgres", "valkey", "tally-tls", "tally-callers")}
BROUGHT_IN_VARIABLES = ("TALLY_POSTGRES__DSN", "TALLY_VALKEY__URL")


@pytest.fixture
def workloads(objects: Sequence[Manifest]) -> list[Workload]:
    return list_workloads(objects)


def selects(selector: dict[str, str], workload: Workload) -> bool:
    return selector.items() <= dict(workload.labels).items()


def test_a_selector_selects_the_pods_of_its_own_workload_alone(workloads: list[Workload]) -> None:
    for owner in workloads:
        if owner.serves:
            selector = owner.spec["selector"]["matchLabels"]
            assert [each.name for each in workloads if selects(selector, each)] == [owner.name]


def test_a_service_leads_to_one_workload_and_a_port_that_it_has(
    objects: Sequence[Manifest], workloads: list[Workload]
) -> None:
    for name, service in find(objects, "Service").items():
        (workload,) = (each for each in workloads if selects(service["spec"]["selector"], each))
        assert workload.name == name
        (port,) = service["spec"]["ports"]
        assert port["targetPort"] in workload.ports, name
        assert port["port"] == workload.ports[port["targetPort"]], name


def test_every_workload_that_is_called_has_a_service(
    objects: Sequence[Manifest], workloads: list[Workload]
) -> None:
    called = {
        each.name for each in workloads if each.serves and (not each.is_ours or BY_NAME[each.name].serves)
    }
    assert called == find(objects, "Service").keys()


def test_a_network_policy_lets_in_the_services_that_call_and_nobody_else(objects: Sequence[Manifest]) -> None:
    policies = find(objects, "NetworkPolicy")
    assert policies.keys() == BY_NAME.keys()
    for name, service in BY_NAME.items():
        spec = policies[name]["spec"]
        assert spec["podSelector"]["matchLabels"].items() >= {"app.kubernetes.io/name": name}.items()
        callers = {caller.name for caller in SERVICES if name in caller.calls}
        metrics, *rules = spec["ingress"]
        assert metrics == {"ports": [{"port": "metrics"}]}
        assert all([port["port"] for port in rule["ports"]] == ["grpc"] for rule in rules), name
        assert bool(rules) is bool(service.serves), name
        allowed = [peer["podSelector"]["matchLabels"] for rule in rules for peer in rule.get("from", ())]
        is_public = any("from" not in rule for rule in rules)
        assert is_public is bool(service.routed), name
        if not is_public:
            assert {each.get("app.kubernetes.io/name") for each in allowed} - {None} == callers, name


def test_a_service_knows_those_that_it_calls(objects: Sequence[Manifest], workloads: list[Workload]) -> None:
    services = find(objects, "Service")
    for workload in workloads:
        if not (workload.is_ours and workload.serves):
            continue
        own = BY_NAME[workload.name]
        environment = read_environment(workload, objects, dict.fromkeys(BROUGHT_IN_VARIABLES, "elsewhere"))
        for called, field in own.calls.items():
            for address in json.loads(environment[own.variable_of(field)]):
                host, _, port = address.removeprefix("dns:///").rpartition(":")
                assert host.split(".")[-1] == called, workload
                assert int(port) == services[called]["spec"]["ports"][0]["port"], workload


def test_a_shard_is_found_before_it_is_ready(objects: Sequence[Manifest]) -> None:
    assert find(objects, "Service")["counting"]["spec"]["publishNotReadyAddresses"] is True


def test_readiness_asks_for_the_service_that_is_there(workloads: list[Workload]) -> None:
    for workload in workloads:
        if workload.is_ours and workload.serves:
            probe = workload.container["readinessProbe"]["grpc"]
            assert probe.get("service", "") == BY_NAME[workload.name].health
            assert probe["port"] == workload.ports["health"]  # the kubelet knows no TLS


def test_metrics_are_served_where_the_port_is(objects: Sequence[Manifest], workloads: list[Workload]) -> None:
    for workload in workloads:
        if workload.is_ours and workload.serves:
            environment = read_environment(
                workload, objects, dict.fromkeys(BROUGHT_IN_VARIABLES, "elsewhere")
            )
            assert environment["TALLY_TELEMETRY__ADDRESS"] == f"0.0.0.0:{workload.ports['metrics']}", workload


def test_every_dashboard_is_in_the_component(choice: Choice, objects: Sequence[Manifest]) -> None:
    if any(component.name == "monitoring" for component in choice.components):
        config_maps = find(objects, "ConfigMap")
        assert config_maps["tally-dashboards"]["data"].keys() == make_dashboards().keys()
        assert json.loads(config_maps["tally-rules"]["data"]["tally-rules.json"]) == make_rules()


def test_a_probe_names_a_port_that_is_there(workloads: list[Workload]) -> None:
    for workload in workloads:
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            port = workload.container.get(probe, {}).get("tcpSocket", {}).get("port")
            assert port is None or port in workload.ports, f"{workload}: {probe}"


def test_an_overlay_brings_all_that_its_pods_ask_for_and_the_base_all_but_the_stores(
    choice: Choice, objects: Sequence[Manifest], workloads: list[Workload]
) -> None:
    references = set().union(*map(list_references, workloads))
    missing = {(kind, name) for kind, name, key in references if not is_held(objects, (kind, name, key))}
    assert missing == (set() if choice.is_overlay else BROUGHT_BY_OTHERS)


def test_the_migration_is_a_command_that_there_is(workloads: list[Workload]) -> None:
    (job,) = (workload for workload in workloads if workload.kind == "Job")
    program, *arguments = job.container["command"]
    assert (program, arguments) == ("tally", ["migrate"])
    command = Path(sysconfig.get_path("scripts")) / program
    done = subprocess.run(  # noqa: S603 - the command of our own package
        [command, *arguments, "--help"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
