"""A cluster with TLS and roles everywhere: it serves those who may, and nobody else, by Envoy and past it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from libs.rpc.security.authority import Authority
from libs.rpc.security.tls import Pair
from services.cli.suite.token import make_token
from services.devcluster.certificates import Certificates, make_certificates
from services.devcluster.cluster import Cluster, open_cluster
from services.registry import SERVICES
from tally.client import Client, PermissionDenied, Tls, Unauthenticated, Unavailable
from tally.client.errors import OutcomeUnknown
from tests.support.certificates import Files
from tests.support.eventually import eventually
from tests.support.processes import FAST
from tests.support.terminal import run

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

ONE_OF_EACH = {service.name: 1 for service in SERVICES}


@dataclass(frozen=True, slots=True)
class World:
    cluster: Cluster
    certificates: Certificates
    tokens: dict[str, str]

    @property
    def ca(self) -> Tls:
        """Trust in the cluster, and nothing that says who calls."""
        return Tls(self.certificates.ca)

    @property
    def operator(self) -> Tls:
        return Tls(
            self.certificates.ca, self.certificates.certificate("operator"), self.certificates.key("operator")
        )

    @asynccontextmanager
    async def client(self, tls: Tls, token: str | None = None, address: str = "") -> AsyncIterator[Client]:
        async with Client(address or self.cluster.address, tls=tls, token=token, timeout=10) as client:
            yield client

    def address_of(self, service: str) -> str:
        return self.cluster.topology.of(service)[0].address


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("tls")
    certificates = make_certificates(folder / "certificates")
    made = {
        "writer": make_token("writer", ["write", "read"], "", None),
        "a": make_token("tenant a", ["write", "read"], "a/", ["view"]),
    }
    with certificates.callers.open("a") as file:
        file.writelines(each.entry for each in made.values())
    tokens = {name: each.token for name, each in made.items()}
    async with open_cluster(folder, ONE_OF_EACH, environment=FAST, certificates=certificates) as cluster:
        yield World(cluster, certificates, tokens)


async def test_the_operator_counts_reads_and_sees_that_all_is_well(world: World) -> None:
    async with world.client(world.operator) as client:
        await client.count("by certificate")
        assert (await client.get_count("by certificate", strong=True)).count == 1
    variables = world.certificates.environment_of_operator()
    counted = await run("count", "by command", address=world.cluster.address, **variables)
    assert counted.out == "counted 1 view of by command\n", counted.err
    shard = await run("dead-letters", "list", address=world.address_of("counting"), **variables)
    assert shard.exit_code == 0, shard.err

    async def all_is_well() -> bool:
        status = await run("status", address=world.cluster.address, **variables)
        return status.exit_code == 0

    await eventually(all_is_well, 60)


async def test_a_token_is_enough_through_the_front_proxy(world: World) -> None:
    async with world.client(world.ca, world.tokens["writer"]) as client:
        await client.count("by token")
        assert (await client.get_count("by token", strong=True)).count == 1


async def test_a_tenant_is_kept_to_its_own_videos(world: World) -> None:
    async with world.client(world.ca, world.tokens["a"]) as client:
        await client.count("a/1")
        for refused in (
            client.count("b/1"),
            client.count("a/1", "like"),
            client.get_count("b/1"),
            client.partition_map(),
        ):
            with pytest.raises(PermissionDenied) as caught:
                await refused
            assert caught.value.reason == "OUTSIDE_RESTRICTION"


async def test_whoever_shows_nothing_is_nobody(world: World) -> None:
    async with world.client(world.ca) as client:
        with pytest.raises(Unauthenticated):
            await client.count("nobody")
    async with world.client(world.ca, "guessed") as client:
        with pytest.raises(Unauthenticated):
            await client.get_count("nobody")


async def test_a_name_that_a_client_writes_into_the_header_itself_is_dropped(world: World) -> None:
    forged = f'Hash={64 * "a"};Subject="CN=tally-operator"'
    async with grpc.aio.secure_channel(world.cluster.address, world.ca.load()) as channel:
        call: Any = channel.unary_unary("/tally.query.v1.QueryService/Audit")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"", timeout=10, metadata=(("x-forwarded-client-cert", forged),))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("attack", ["expired", "wrong CA"])
@pytest.mark.parametrize("target", ["front", "counting"])
async def test_a_bad_certificate_connects_to_nothing(
    world: World, attack: str, target: str, tmp_path: Path
) -> None:
    folder = world.certificates
    own = Authority.load(Pair(folder.ca.read_bytes(), folder.key("ca").read_bytes()))
    files = Files(tmp_path, own if attack == "expired" else Authority.make("Tally's own authority", 1))
    until = datetime.now(UTC) + (timedelta(seconds=-1) if attack == "expired" else timedelta(days=1))
    certificate, key = files.issue("tally-operator", until=until)
    tls = Tls(folder.ca, certificate, key)
    address = world.cluster.address if target == "front" else world.address_of(target)
    async with world.client(tls, address=address) as client:
        with pytest.raises((Unavailable, OutcomeUnknown)):
            await client.counting.get_cluster(timeout=3)


async def test_a_shard_takes_entries_from_services_alone(world: World) -> None:
    shard = world.address_of("counting")
    async with grpc.aio.secure_channel(shard, world.operator.load()) as channel:
        call: Any = channel.unary_unary("/tally.counting.v1.CountingService/Append")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"", timeout=10)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    async with world.client(world.ca, address=shard) as client:
        with pytest.raises(Unavailable):  # without a certificate there is no connection
            await client.counting.get_cluster(timeout=3)


async def test_logs_tell_who_operated_and_no_token(world: World) -> None:
    async with world.client(world.operator) as client:
        await client.audit()
    names = [place.name for place in world.cluster.topology.places]
    logs = await asyncio.gather(
        *(asyncio.to_thread(world.cluster.log_of(name).read_text) for name in [*names, "envoy"])
    )
    assert any("operator's call" in log for log in logs)
    for log in logs:
        assert not any(token in log for token in world.tokens.values())
        assert "PRIVATE KEY" not in log
