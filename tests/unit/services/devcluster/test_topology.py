"""A cluster's processes have names and addresses of their own, and know each other."""

import json
from pathlib import Path

import pytest

from libs.embedded.envoy_config import HEALTH_CHECK_SECONDS, HEALTH_CHECK_TIMEOUT_SECONDS
from services.counting.settings import CountingSettings
from services.devcluster.topology import Topology, make_topology
from services.registry import SERVICES
from services.settings import read_settings

FOLDER = Path("/data")


def environment(topology: Topology, name: str) -> dict[str, str]:
    (place,) = (place for place in topology.places if place.name == name)
    return topology.environment_of(place, FOLDER, "postgresql://there", "redis://there")


def test_every_process_has_a_name_and_an_address_of_its_own() -> None:
    counts = {service.name: 1 for service in SERVICES} | {"partitioner": 2, "counting": 3}
    topology = make_topology(counts, None)
    names = [place.name for place in topology.places]
    assert names == [f"{each.name}-{n}" for each in reversed(SERVICES) for n in range(counts[each.name])]
    addresses = {topology.address, *(place.address for place in topology.places)}
    assert len(addresses) == 1 + sum(counts.values())


def test_a_shard_has_a_stable_name_and_a_partitioner_knows_all_shards() -> None:
    topology = make_topology({}, "127.0.0.1:50051")
    assert topology.address == "127.0.0.1:50051"
    assert environment(topology, "counting-2")["TALLY_COUNTING__SHARD"] == "counting-2"
    shards = [place.address for place in topology.of("counting")]
    assert json.loads(environment(topology, "partitioner-1")["TALLY_PARTITIONER__SHARDS"]) == shards
    assert "TALLY_PARTITIONER__SHARDS" not in environment(topology, "query-0")


def test_the_variables_are_settings_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    topology = make_topology({}, None)
    for place in topology.places:
        with monkeypatch.context() as patch:
            for name, value in environment(topology, place.name).items():
                patch.setenv(name, value)
            settings = read_settings()
            assert settings.server.address == place.address
            assert settings.data_dir == FOLDER
            assert settings.postgres.dsn == "postgresql://there"
            if place.service.name == "counting":
                assert settings.of(CountingSettings).shard == place.name


def test_the_front_proxy_leads_to_the_services_for_clients_and_to_no_shard() -> None:
    topology = make_topology({}, None)
    led = {service: pool.addresses for pool in topology.pools for service in pool.services}
    assert led == {
        routed.full_name: [place.address for place in topology.of(service.name)]
        for service in SERVICES
        for routed in service.routed
    }
    assert {"tally.ingest.v1.IngestService", "tally.query.v1.QueryService"} <= led.keys()
    assert not [name for name in led if name.startswith("tally.counting.")]
    public = {place.service.name for place in topology.places if place.is_public}
    assert public == {service.name for service in SERVICES if service.routed}


def test_the_health_of_the_whole_is_that_of_the_partitioners() -> None:
    assert make_topology({}, None).pools[0].name == "partitioner"


def test_a_worker_knows_all_schedulers() -> None:
    topology = make_topology({}, None)
    schedulers = [place.address for place in topology.of("scheduler")]
    assert len(schedulers) == len(topology.of("worker")) == 2
    assert json.loads(environment(topology, "worker-1")["TALLY_WORKER__SCHEDULER"]) == schedulers


def test_a_server_that_leaves_says_so_for_longer_than_its_balancer_takes_to_notice() -> None:
    topology = make_topology({}, None)
    delay = float(environment(topology, "query-0")["TALLY_SERVER__DRAIN_DELAY_SECONDS"])
    assert delay > HEALTH_CHECK_SECONDS + HEALTH_CHECK_TIMEOUT_SECONDS
