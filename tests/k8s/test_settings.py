"""Every variable is a setting, and the settings fit what is around them."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from pydantic import BaseModel

from libs.rpc.server import check_reach
from services.counting.settings import CountingSettings
from services.devcluster.certificates import HOST
from services.partitioner.settings import PartitionerSettings
from services.registry import SERVICES
from services.settings import Settings, model_of_all, read_settings
from tests.k8s.render import Choice, Manifest
from tests.k8s.workloads import Workload, find, list_workloads, read_environment

# The base leaves these two to whoever brings the stores.
ELSEWHERE = {"TALLY_POSTGRES__DSN": "postgresql://postgres/tally", "TALLY_VALKEY__URL": "redis://valkey"}
# Closing connections, and sending the last telemetry.
CLOSING_SECONDS = 10

Environment = Callable[[Workload], dict[str, str]]
Read = Callable[[Workload], Settings]


@pytest.fixture
def ours(objects: Sequence[Manifest]) -> list[Workload]:
    return [workload for workload in list_workloads(objects) if workload.is_ours]


@pytest.fixture
def environment_of(choice: Choice, objects: Sequence[Manifest]) -> Environment:
    elsewhere = {} if choice.is_overlay else ELSEWHERE
    return lambda workload: read_environment(workload, objects, elsewhere)


@pytest.fixture
def settings_of(environment_of: Environment, monkeypatch: pytest.MonkeyPatch) -> Read:
    def read(workload: Workload) -> Settings:
        for name in [name for name in os.environ if name.startswith("TALLY_")]:
            monkeypatch.delenv(name)
        for name, value in environment_of(workload).items():
            monkeypatch.setenv(name, value)
        return read_settings()

    return read


def is_setting(name: str) -> bool:
    """Whether a variable leads to a field; the settings ignore one that leads nowhere."""
    model: type[BaseModel] | None = model_of_all()
    for part in name.removeprefix("TALLY_").lower().split("__"):
        if model is None or part not in model.model_fields:
            return False
        kind = model.model_fields[part].annotation
        model = kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None
    return model is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("TALLY_PARTITION_COUNT", True),
        ("TALLY_COUNTING__FLUSH__INTERVAL_SECONDS", True),
        ("TALLY_COUNTING__FLUSH", False),
        ("TALLY_COUNTING__FLUSH_INTERVAL_SECONDS", False),
        ("TALLY_PARTITIONS", False),
        ("TALLY_PARTITION_COUNT__MORE", False),
    ],
)
def test_a_variable_is_a_setting_when_it_leads_to_a_field(name: str, expected: bool) -> None:
    assert is_setting(name) is expected


def test_every_variable_is_a_setting(ours: list[Workload], environment_of: Environment) -> None:
    for workload in ours:
        for name in environment_of(workload):
            assert name.startswith("TALLY_"), f"{workload}: {name}"
            assert is_setting(name), f"{workload}: {name}"


def test_the_settings_of_every_container_are_accepted(ours: list[Workload], settings_of: Read) -> None:
    for workload in ours:
        settings = settings_of(workload)
        assert settings.postgres.dsn is not None, workload
        assert settings.valkey.url is not None, workload
        assert settings.log.format == "json", workload


def test_everybody_has_the_same_partition_count_and_is_told_it(
    ours: list[Workload], settings_of: Read, environment_of: Environment
) -> None:
    assert len({settings_of(workload).partition_count for workload in ours}) == 1
    assert all("TALLY_PARTITION_COUNT" in environment_of(workload) for workload in ours)


def test_a_service_listens_where_its_port_is(ours: list[Workload], settings_of: Read) -> None:
    for workload in ours:
        if workload.serves:
            assert settings_of(workload).server.address == f"0.0.0.0:{workload.ports['grpc']}", workload


def test_every_server_has_tls_and_roles_and_calls_others_by_tls(
    ours: list[Workload], settings_of: Read
) -> None:
    for workload in ours:
        if workload.serves:
            server, calls = settings_of(workload).server, settings_of(workload).calls
            assert not server.open, workload
            check_reach(server)
            assert server.tls.client_ca_file == calls.tls.ca_file, workload
            assert calls.tls.certificate_file == server.tls.certificate_file, workload
            assert calls.tls.server_name == HOST, workload
            assert server.health_address == f"0.0.0.0:{workload.ports['health']}", workload


def test_the_files_of_certificates_and_callers_are_in_the_secrets_of_an_overlay(
    choice: Choice, objects: Sequence[Manifest], ours: list[Workload], settings_of: Read
) -> None:
    secrets = find(objects, "Secret")
    for workload in ours:
        if not workload.serves:
            continue
        server, calls = settings_of(workload).server, settings_of(workload).calls
        files = [
            *(value for _, value in [*server.tls, *calls.tls] if isinstance(value, Path)),
            server.roles.callers_file,
        ]
        folders = {mount["mountPath"]: mount["name"] for mount in workload.container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in workload.pod["volumes"]}
        for file in files:
            assert file is not None
            secret = volumes[folders[str(file.parent)]]["secret"]["secretName"]
            assert not choice.is_overlay or file.name in secrets[secret]["data"], workload


def test_a_pod_has_the_time_that_its_end_takes(ours: list[Workload], settings_of: Read) -> None:
    for workload in ours:
        if workload.serves:
            settings = settings_of(workload)
            needed = settings.server.drain_delay_seconds + settings.server.grace_seconds + CLOSING_SECONDS
            if workload.name == "counting":
                needed += settings.of(CountingSettings).flush_timeout_seconds
                needed += settings.of(CountingSettings).recovery.transaction_timeout_seconds
                needed += settings.of(CountingSettings).spool.drain_seconds
            assert workload.pod["terminationGracePeriodSeconds"] >= needed, workload


def test_a_balanced_service_waits_until_balancers_know_that_it_leaves(
    ours: list[Workload], settings_of: Read
) -> None:
    for workload in ours:
        if workload.kind == "Deployment":
            assert settings_of(workload).server.drain_delay_seconds >= 5, workload


def test_the_partitioner_knows_every_shard(
    ours: list[Workload], objects: Sequence[Manifest], settings_of: Read
) -> None:
    by_name = {workload.name: workload for workload in ours}
    counting = by_name["counting"]
    assert counting.kind == "StatefulSet"
    service = find(objects, "Service")[counting.spec["serviceName"]]
    assert service["spec"]["clusterIP"] == "None"
    assert settings_of(by_name["partitioner"]).of(PartitionerSettings).shards == tuple(
        f"{counting.name}-{number}.{service['metadata']['name']}:{counting.ports['grpc']}"
        for number in range(counting.spec["replicas"])
    )


def test_each_shard_goes_by_the_name_of_its_pod(ours: list[Workload], settings_of: Read) -> None:
    (counting,) = (workload for workload in ours if workload.name == "counting")
    assert settings_of(counting).of(CountingSettings).shard == "counting-0"


def test_each_shard_has_a_volume_of_its_own_with_room_for_its_spool(
    ours: list[Workload], settings_of: Read
) -> None:
    (counting,) = (workload for workload in ours if workload.name == "counting")
    spool = settings_of(counting).of(CountingSettings).spool
    (claim,) = counting.spec["volumeClaimTemplates"]
    (mount,) = (each for each in counting.container["volumeMounts"] if each["name"] == "spool")
    assert spool.enabled
    assert (mount["name"], mount["mountPath"]) == (claim["metadata"]["name"], str(spool.folder))
    storage = claim["spec"]["resources"]["requests"]["storage"]
    assert int(storage.removesuffix("Gi")) * 1024**3 >= 1.25 * spool.max_bytes
    assert counting.pod["securityContext"]["fsGroup"] == counting.pod["securityContext"]["runAsUser"]
    # What an entry was acknowledged for must not go with the pod.
    retention = counting.spec.get("persistentVolumeClaimRetentionPolicy", {})
    assert set(retention.values()) <= {"Retain"}


def test_every_service_runs_and_under_its_own_name(ours: list[Workload]) -> None:
    serving = [workload for workload in ours if workload.serves]
    assert sorted(workload.name for workload in serving) == sorted({service.name for service in SERVICES})
    for workload in serving:
        assert workload.container["command"] == ["python", "-m", "services", workload.name]
        assert "args" not in workload.container
