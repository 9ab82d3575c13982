"""Names that must agree: selectors, ports, gRPC services, Secrets, commands."""

import importlib
import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.k8s.render import Choice, Manifest
from tests.k8s.workloads import Workload, find, is_held, list_references, list_workloads

BROUGHT_BY_OTHERS = {("Secret", "postgres"), ("Secret", "valkey")}


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


def test_whoever_serves_has_a_service(objects: Sequence[Manifest], workloads: list[Workload]) -> None:
    assert {each.name for each in workloads if each.serves} == find(objects, "Service").keys()


def test_a_shard_is_found_before_it_is_ready(objects: Sequence[Manifest]) -> None:
    assert find(objects, "Service")["counting"]["spec"]["publishNotReadyAddresses"] is True


def test_readiness_asks_for_the_service_that_is_there(workloads: list[Workload]) -> None:
    for workload in workloads:
        if workload.is_ours and workload.serves:
            app = importlib.import_module(f"services.{workload.name}.app")
            probe = workload.container["readinessProbe"]["grpc"]
            assert probe == {"port": workload.ports["grpc"], "service": app.NAME}


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
