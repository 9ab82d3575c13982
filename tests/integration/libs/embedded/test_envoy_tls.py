"""Envoy with TLS on both sides: tokens and names of certificates reach the servers, and nothing that is made up."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import pytest

from libs.embedded.envoy import open_envoy
from libs.embedded.envoy_config import Pool, ProxyTls
from libs.rpc.channel import connect
from libs.rpc.ports import find_free
from libs.rpc.security.access import RolesSettings
from libs.rpc.security.tls import ChannelTlsSettings
from libs.rpc.server import Servable, ServerSettings, open_server
from tally.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from tests.support.certificates import Files, make_files
from tests.support.eventually import eventually

INGEST = "tally.ingest.v1.IngestService"
TOKEN = "the-token-of-an-application"  # noqa: S105 - made up
CALLERS = f"""
[[caller]]
name = "application"
token_sha256 = "{sha256(TOKEN.encode()).hexdigest()}"
roles = ["write"]

[[caller]]
name = "person"
certificate = "person"
roles = ["write"]
"""


class Ingest(ingest_pb2_grpc.IngestServiceServicer):
    async def CountEvent(self, request: Any, context: Any) -> ingest_pb2.CountEventResponse:  # noqa: ARG002, N802 - the proto's
        return ingest_pb2.CountEventResponse()


@dataclass(frozen=True, slots=True)
class Front:
    address: str
    files: Files

    async def count(self, tls: ChannelTlsSettings, *metadata: tuple[str, str]) -> grpc.StatusCode:
        async with connect(self.address, tls, [("grpc.enable_retries", 0)]) as channel:
            call: Any = ingest_pb2_grpc.IngestServiceStub(channel).CountEvent
            try:
                await call(ingest_pb2.CountEventRequest(), timeout=10, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                return error.code()
        return grpc.StatusCode.OK

    @property
    def without_certificate(self) -> ChannelTlsSettings:
        return ChannelTlsSettings(ca_file=self.files.ca)


@asynccontextmanager
async def open_front(folder: Path) -> AsyncIterator[Front]:
    files = make_files(folder / "files")
    callers = files.write("callers.toml", CALLERS.encode())
    settings = ServerSettings(
        address="127.0.0.1:0",
        grace_seconds=1.0,
        tls=files.server(),
        roles=RolesSettings(callers_file=callers, forwarded_by=("front",)),
    )
    servable = Servable(
        INGEST, lambda server: ingest_pb2_grpc.add_IngestServiceServicer_to_server(Ingest(), server)
    )
    certificate, key = files.issue("front")
    tls = ProxyTls(str(files.ca), str(certificate), str(key), "localhost")
    async with open_server(settings, [servable]) as server:
        await server.health.set_serving(INGEST, True)
        pools = [Pool("partitioner", [server.address], INGEST, [INGEST])]
        address = f"127.0.0.1:{find_free(1)[0]}"
        async with open_envoy(folder, address, pools, tls=tls) as envoy:

            async def is_healthy() -> bool:
                return server.address in await envoy.healthy_addresses()

            await eventually(is_healthy)
            yield Front(address, files)


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Front]:
    async with open_front(tmp_path) as opened:
        yield opened


async def test_who_gets_through_and_who_does_not(front: Front, tmp_path: Path) -> None:
    """One test for all: it starts an Envoy."""
    files, token = front.files, ("authorization", f"Bearer {TOKEN}")
    other = make_files(tmp_path / "other").channel("person").model_copy(update={"ca_file": files.ca})
    expired = files.channel("late", until=datetime.now(UTC) - timedelta(seconds=1))
    forged = ("x-forwarded-client-cert", f'Hash={64 * "a"};Subject="CN=person"')
    ok, nobody, away = (
        grpc.StatusCode.OK,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNAVAILABLE,
    )
    assert await front.count(front.without_certificate, token) is ok
    assert await front.count(files.channel("person")) is ok
    assert await front.count(files.channel("person"), ("authorization", "Bearer guessed")) is nobody
    assert await front.count(front.without_certificate) is nobody
    assert await front.count(front.without_certificate, forged) is nobody
    assert await front.count(files.channel("somebody"), forged) is nobody
    assert await front.count(files.channel("front"), forged) is nobody  # as a client of itself
    assert await front.count(other) is away
    assert await front.count(expired) is away
    assert await front.count(ChannelTlsSettings(), token) is away
