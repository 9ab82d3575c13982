"""What every pod must have: limits, rights, probes."""

from collections.abc import Sequence

import pytest

from tests.k8s.render import Choice, Manifest, render
from tests.k8s.workloads import Workload, list_workloads


@pytest.fixture
def workloads(objects: Sequence[Manifest]) -> list[Workload]:
    return list_workloads(objects)


def test_no_pod_may_do_more_than_the_restricted_standard_allows(workloads: list[Workload]) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/ and a read-only root besides."""
    for workload in workloads:
        pod, container = workload.pod["securityContext"], workload.container["securityContext"]
        assert pod["runAsNonRoot"] is True, workload
        assert pod["runAsUser"] > 0, workload  # an image that names its user by a word cannot be checked
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}, workload
        assert container["allowPrivilegeEscalation"] is False, workload
        assert container["readOnlyRootFilesystem"] is True, workload
        assert container["capabilities"] == {"drop": ["ALL"]}, workload
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & workload.pod.keys(), workload
        assert not {"hostPort"} & {key for port in workload.container.get("ports", ()) for key in port}
        kinds = [volume.keys() - {"name"} for volume in workload.pod.get("volumes", ())]
        assert all(kind in ({"emptyDir"}, {"secret"}) for kind in kinds), workload


def test_no_pod_gets_a_token_or_variables_that_look_like_settings(workloads: list[Workload]) -> None:
    for workload in workloads:
        assert workload.pod["automountServiceAccountToken"] is False, workload
        assert workload.pod["enableServiceLinks"] is False, workload


def test_every_container_says_what_it_needs(workloads: list[Workload]) -> None:
    for workload in workloads:
        resources = workload.container["resources"]
        assert {"cpu", "memory"} <= resources["requests"].keys(), workload
        assert "memory" in resources["limits"], workload
        assert "cpu" not in resources["limits"], f"{workload}: being throttled shows as latency"


def test_every_container_that_serves_has_its_probes(workloads: list[Workload]) -> None:
    for workload in workloads:
        if workload.serves:
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                assert probe in workload.container, f"{workload} has no {probe}"


def test_liveness_does_not_depend_on_others(workloads: list[Workload]) -> None:
    """Health says NOT_SERVING while Postgres is unreachable, and a restart would not bring it back."""
    for workload in workloads:
        if workload.serves:
            for probe in ("startupProbe", "livenessProbe"):
                assert workload.container[probe].keys() & {"tcpSocket", "exec"}, workload
            assert "tcpSocket" in workload.container["livenessProbe"], workload


def test_every_image_has_a_version(choice: Choice, workloads: list[Workload]) -> None:
    for workload in workloads:
        _, _, version = str(workload.container["image"]).partition(":")
        if workload.is_ours and not choice.is_overlay:
            assert version == "", f"{workload}: it is the overlay that knows"
        else:
            assert version not in ("", "latest"), workload


def test_a_budget_keeps_all_but_one_of_each_service(objects: Sequence[Manifest]) -> None:
    budgets = {
        tuple(each["spec"]["selector"]["matchLabels"].items()): each["spec"]["maxUnavailable"]
        for each in objects
        if each["kind"] == "PodDisruptionBudget"
    }
    for workload in list_workloads(objects):
        if workload.is_ours and workload.serves:
            assert budgets.pop(tuple(workload.spec["selector"]["matchLabels"].items())) == 1, workload
    assert not budgets, "there are budgets for pods that do not exist"


def test_replicas_are_spread_over_nodes(workloads: list[Workload]) -> None:
    for workload in workloads:
        if workload.is_ours and workload.serves:
            (spread,) = workload.pod["topologySpreadConstraints"]
            assert spread["labelSelector"] == workload.spec["selector"], workload


def test_the_namespace_of_an_overlay_enforces_the_restricted_standard(choice: Choice) -> None:
    if choice.is_overlay:
        namespaces = [each for each in render(choice) if each["kind"] == "Namespace"]
        for each in namespaces:
            assert each["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
        named = {each["metadata"].get("namespace") for each in render(choice) if each["kind"] != "Namespace"}
        assert named == {each["metadata"]["name"] for each in namespaces}
