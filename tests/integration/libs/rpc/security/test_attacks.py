"""A server with TLS and roles, attacked by callers without a right to it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # it ships no types
from grpc_reflection.v1alpha import (  # type: ignore[import-untyped]  # it ships no types
    reflection_pb2,
    reflection_pb2_grpc,
)
from structlog.testing import capture_logs

from libs.rpc.channel import connect
from libs.rpc.ports import find_free
from libs.rpc.security.access import RolesSettings
from libs.rpc.security.tls import ChannelTlsSettings
from libs.rpc.server import OpenServer, Servable, ServerSettings, open_server
from tally.contract.errors import PermissionDenied, TallyError, Unauthenticated
from tally.contract.status import error_from_rpc
from tally.counting.v1 import counting_pb2, dead_letters_pb2, dead_letters_pb2_grpc
from tally.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from tests.integration.libs.rpc.servicer import (
    COUNTING,
    INGEST,
    Counting,
    CountingStub,
    IngestStub,
    counting,
)
from tests.support.certificates import Files, make_files
from tests.support.eventually import eventually

TOKEN_OF_A = "token-of-tenant-a"  # noqa: S105 - made up
TOKEN_OF_B = "token-of-tenant-b"  # noqa: S105 - made up
WRITER = "token-of-a-writer"
OPERATOR = "token-of-an-operator"
LETTERS = "tally.counting.v1.DeadLetterService"
LettersStub: Any = dead_letters_pb2_grpc.DeadLetterServiceStub

CALLERS = f"""
[[caller]]
name = "services"
certificate = "tally-service"
roles = ["internal"]

[[caller]]
name = "writer"
token_sha256 = "{sha256(WRITER.encode()).hexdigest()}"
roles = ["write"]

[[caller]]
name = "operator"
token_sha256 = "{sha256(OPERATOR.encode()).hexdigest()}"
certificate = "person"
roles = ["operate"]

[[caller]]
name = "tenant a"
token_sha256 = "{sha256(TOKEN_OF_A.encode()).hexdigest()}"
roles = ["write", "read"]
video_id_prefix = "a/"

[[caller]]
name = "tenant b"
token_sha256 = "{sha256(TOKEN_OF_B.encode()).hexdigest()}"
roles = ["write", "read"]
video_id_prefix = "b/"
event_types = ["view"]
"""


class Ingest(ingest_pb2_grpc.IngestServiceServicer):
    """Notes the videos that it is asked to count."""

    def __init__(self) -> None:
        self.videos: list[str] = []

    async def CountEvent(self, request: Any, context: Any) -> ingest_pb2.CountEventResponse:  # noqa: ARG002, N802 - the proto's
        self.videos.append(request.video_id)
        return ingest_pb2.CountEventResponse()

    async def StreamEvents(  # noqa: N802 - the proto's
        self,
        request_iterator: AsyncIterator[ingest_pb2.StreamEventsRequest],
        context: Any,  # noqa: ARG002 - the proto's
    ) -> AsyncIterator[ingest_pb2.StreamEventsResponse]:
        async for request in request_iterator:
            self.videos += [event.video_id for event in request.batch.events]
            yield ingest_pb2.StreamEventsResponse()

    async def GetPartitionMap(self, request: Any, context: Any) -> ingest_pb2.GetPartitionMapResponse:  # noqa: ARG002, N802 - the proto's
        return ingest_pb2.GetPartitionMapResponse()


class Letters(dead_letters_pb2_grpc.DeadLetterServiceServicer):
    async def ListDeadLetters(self, request: Any, context: Any) -> dead_letters_pb2.ListDeadLettersResponse:  # noqa: ARG002, N802 - the proto's
        return dead_letters_pb2.ListDeadLettersResponse()


@dataclass(frozen=True, slots=True)
class World:
    """The server under attack, and files for those who attack it."""

    server: OpenServer
    files: Files
    callers: Path
    ingest: Ingest
    counting: Counting

    @asynccontextmanager
    async def connect(self, tls: ChannelTlsSettings | None = None) -> AsyncIterator[grpc.aio.Channel]:
        """As a client with the certificate of the services, or with another one."""
        own = tls or self.files.channel("tally-service")
        async with connect(self.server.address, own, [("grpc.enable_retries", 0)]) as channel:
            yield channel


@asynccontextmanager
async def open_world(
    folder: Path, *, asks_for_certificates: bool = True, roles: RolesSettings | None = None
) -> AsyncIterator[World]:
    files = make_files(folder)
    callers = files.write("callers.toml", CALLERS.encode())
    settings = ServerSettings(
        address="127.0.0.1:0",
        grace_seconds=1.0,
        tls=files.server(asks_for_certificates=asks_for_certificates),
        roles=roles or RolesSettings(callers_file=callers, forwarded_by=("front",)),
    )
    ingest, shard = Ingest(), Counting()
    servables = [
        Servable(INGEST, lambda server: ingest_pb2_grpc.add_IngestServiceServicer_to_server(ingest, server)),
        Servable(
            LETTERS,
            lambda server: dead_letters_pb2_grpc.add_DeadLetterServiceServicer_to_server(Letters(), server),
        ),
        counting(shard),
    ]
    async with open_server(settings, servables) as server:
        yield World(server, files, callers, ingest, shard)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


async def refusal(awaitable: Awaitable[object]) -> TallyError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await awaitable
    return error_from_rpc(caught.value)


def bearer(token: str) -> Sequence[tuple[str, str]]:
    return (("authorization", f"Bearer {token}"),)


def count(
    channel: grpc.aio.Channel, video: str, metadata: Any = None, kind: str = "view"
) -> Awaitable[object]:
    request = ingest_pb2.CountEventRequest(video_id=video, event_type=kind)
    call: Awaitable[object] = IngestStub(channel).CountEvent(request, timeout=10, metadata=metadata)
    return call


def append(channel: grpc.aio.Channel, metadata: Any = None) -> Awaitable[object]:
    call: Awaitable[object] = CountingStub(channel).Append(
        counting_pb2.AppendRequest(), timeout=10, metadata=metadata
    )
    return call


async def test_a_certificate_of_the_cluster_gets_in(world: World) -> None:
    async with world.connect() as channel:
        await append(channel)
    assert world.counting.calls == 1


@pytest.mark.parametrize("attack", ["no TLS", "no certificate", "expired", "wrong CA", "its own CA"])
async def test_nobody_connects_without_a_good_certificate(world: World, attack: str, tmp_path: Path) -> None:
    files = world.files
    attacks: dict[str, Callable[[], ChannelTlsSettings]] = {
        "no TLS": ChannelTlsSettings,
        "no certificate": lambda: ChannelTlsSettings(ca_file=files.ca),
        "expired": lambda: files.channel("tally-service", until=datetime.now(UTC) - timedelta(seconds=1)),
        "wrong CA": lambda: (
            make_files(tmp_path / "b").channel("tally-service").model_copy(update={"ca_file": files.ca})
        ),
        "its own CA": lambda: make_files(tmp_path / "c").channel("tally-service"),
    }
    async with world.connect(attacks[attack]()) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await append(channel)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert world.counting.calls == 0


async def test_an_unknown_name_is_nobody(world: World) -> None:
    async with world.connect(world.files.channel("somebody")) as channel:
        error = await refusal(append(channel))
    assert (type(error), error.reason) == (Unauthenticated, "CREDENTIALS_MISSING")
    assert world.counting.calls == 0


async def test_a_wrong_role_is_refused_whatever_identifies_the_caller(world: World) -> None:
    async with world.connect() as channel:
        by_certificate = await refusal(count(channel, "a/1"))
        by_token = await refusal(append(channel, bearer(WRITER)))
        letters = await refusal(
            LettersStub(channel).ListDeadLetters(
                dead_letters_pb2.ListDeadLettersRequest(), timeout=10, metadata=bearer(WRITER)
            )
        )
    for error in (by_certificate, by_token, letters):
        assert (type(error), error.reason) == (PermissionDenied, "ROLE_MISSING")
    assert "needs the role internal" in by_token.message
    assert world.counting.calls == 0
    assert world.ingest.videos == []


async def test_a_token_decides_alone_over_the_certificate_of_its_connection(world: World) -> None:
    """A service's connection with a caller's token is the caller's: a bad token gets nothing from the certificate."""
    async with world.connect() as channel:
        await count(channel, "x", bearer(WRITER))
        error = await refusal(append(channel, bearer("guessed")))
    assert (type(error), error.reason) == (Unauthenticated, "TOKEN_UNKNOWN")


@pytest.mark.parametrize(
    "metadata",
    [
        bearer(""),
        (("authorization", WRITER),),
        (("authorization", f"Basic {WRITER}"),),
        (*bearer(WRITER), *bearer(WRITER)),
        bearer(4 * 1024 * "x"),
        bearer("a.b.c"),
        bearer(sha256(WRITER.encode()).hexdigest()),
    ],
    ids=["empty", "no scheme", "basic", "twice", "long", "like a JWT", "the hash itself"],
)
async def test_what_is_no_token_is_refused(world: World, metadata: Any) -> None:
    async with world.connect() as channel:
        error = await refusal(count(channel, "a/1", metadata))
    assert type(error) is Unauthenticated
    assert error.reason in ("TOKEN_UNKNOWN", "TOKEN_INVALID")
    assert world.ingest.videos == []


async def test_a_tenant_counts_and_reads_its_own_videos_alone(world: World) -> None:
    async with world.connect() as channel:
        await count(channel, "a/1", bearer(TOKEN_OF_A), "any")
        await count(channel, "b/1", bearer(TOKEN_OF_B))
        errors = [
            await refusal(count(channel, "b/1", bearer(TOKEN_OF_A))),
            await refusal(count(channel, "a/1", bearer(TOKEN_OF_B))),
            await refusal(count(channel, "b/1", bearer(TOKEN_OF_B), "like")),
            # It cannot be checked what this tells.
            await refusal(
                IngestStub(channel).GetPartitionMap(
                    ingest_pb2.GetPartitionMapRequest(), timeout=10, metadata=bearer(TOKEN_OF_A)
                )
            ),
        ]
    for error in errors:
        assert (type(error), error.reason) == (PermissionDenied, "OUTSIDE_RESTRICTION")
    assert world.ingest.videos == ["a/1", "b/1"]


async def test_a_stream_ends_with_the_first_batch_for_another_tenant(world: World) -> None:
    def batch(video: str) -> ingest_pb2.StreamEventsRequest:
        events = [ingest_pb2.Event(video_id=video, event_type="view")]
        return ingest_pb2.StreamEventsRequest(batch=ingest_pb2.ProcessEventsRequest(events=events))

    async with world.connect() as channel:
        call = IngestStub(channel).StreamEvents(
            iter([batch("a/1"), batch("b/1"), batch("a/2")]), timeout=10, metadata=bearer(TOKEN_OF_A)
        )

        async def read() -> None:
            async for _ in call:
                pass

        error = await refusal(read())
    assert (type(error), error.reason) == (PermissionDenied, "OUTSIDE_RESTRICTION")
    assert world.ingest.videos == ["a/1"]


async def test_a_stripped_token_leaves_a_proxy_with_nothing(world: World) -> None:
    """The proxy's certificate stands for nobody: a call on its connection needs a token, or a forwarded name."""
    forwarded = (("x-forwarded-client-cert", f'Hash={64 * "a"};Subject="CN=person"'),)
    async with world.connect(world.files.channel("front")) as channel:
        stripped = await refusal(count(channel, "a/1"))
        made_up = await refusal(count(channel, "a/1", (("x-forwarded-client-cert", "CN=person"),)))
        twice = await refusal(count(channel, "a/1", (*forwarded, *forwarded)))
        await LettersStub(channel).ListDeadLetters(
            dead_letters_pb2.ListDeadLettersRequest(), timeout=10, metadata=forwarded
        )
        await count(channel, "a/1", bearer(TOKEN_OF_A))
    for error in (stripped, made_up, twice):
        assert (type(error), error.reason) == (Unauthenticated, "CREDENTIALS_MISSING")
    assert world.ingest.videos == ["a/1"]


async def test_only_a_proxy_may_forward_a_name(world: World) -> None:
    forwarded = (("x-forwarded-client-cert", f'Hash={64 * "a"};Subject="CN=person"'),)
    async with world.connect() as channel:
        error = await refusal(
            LettersStub(channel).ListDeadLetters(
                dead_letters_pb2.ListDeadLettersRequest(), timeout=10, metadata=forwarded
            )
        )
    assert (type(error), error.reason) == (PermissionDenied, "ROLE_MISSING")


async def test_health_is_for_anyone_and_reflection_for_readers_unless_settings_differ(tmp_path: Path) -> None:
    def check(channel: grpc.aio.Channel, metadata: Any = None) -> Awaitable[object]:
        call: Awaitable[object] = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), timeout=10, metadata=metadata
        )
        return call

    async def reflect(channel: grpc.aio.Channel, metadata: Any = None) -> None:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        requests = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        async for _ in stub.ServerReflectionInfo(requests, timeout=10, metadata=metadata):
            pass

    async with (
        open_world(tmp_path / "usual") as world,
        world.connect(world.files.channel("nobody")) as channel,
    ):
        await check(channel)
        assert type(await refusal(reflect(channel))) is Unauthenticated
        await reflect(channel, bearer(TOKEN_OF_A))
    strict = RolesSettings(
        callers_file=tmp_path / "strict" / "callers.toml", health="operate", reflection="anyone"
    )
    async with (
        open_world(tmp_path / "strict", roles=strict) as world,
        world.connect(world.files.channel("nobody")) as channel,
    ):
        assert type(await refusal(check(channel))) is Unauthenticated
        assert type(await refusal(check(channel, bearer(WRITER)))) is PermissionDenied
        await check(channel, bearer(OPERATOR))
        await reflect(channel)


async def test_with_tls_for_the_server_alone_tokens_identify_callers(tmp_path: Path) -> None:
    async with (
        open_world(tmp_path, asks_for_certificates=False) as world,
        world.connect(ChannelTlsSettings(ca_file=world.files.ca)) as channel,
    ):
        await count(channel, "a/1", bearer(WRITER))
        error = await refusal(count(channel, "a/1"))
    assert type(error) is Unauthenticated


async def test_an_operators_call_is_logged_with_who_and_what_and_no_token(world: World) -> None:
    async with world.connect() as channel:
        with capture_logs() as logs:
            await LettersStub(channel).ListDeadLetters(
                dead_letters_pb2.ListDeadLettersRequest(page_size=7), timeout=10, metadata=bearer(OPERATOR)
            )
            await count(channel, "a/1", bearer(WRITER))
            await refusal(count(channel, "a/1", bearer("guessed-secret")))
    (log,) = logs
    assert log["caller"] == "operator"
    assert log["method"] == f"{LETTERS}/ListDeadLetters"
    assert log["request"] == "page_size: 7"
    assert not {OPERATOR, WRITER, "guessed-secret"} & set(str(logs).split())


async def test_no_refusal_tells_a_token(world: World) -> None:
    async with world.connect() as channel:
        for metadata in (
            bearer("guessed-secret"),
            (("authorization", "guessed-secret"),),
            bearer("a.b.secret"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await count(channel, "a/1", metadata)
            assert "secret" not in repr(caught.value) + repr(error_from_rpc(caught.value).metadata)


async def test_a_caller_that_is_taken_out_of_the_file_is_refused(world: World) -> None:
    async with world.connect() as channel:
        await count(channel, "a/1", bearer(WRITER))
        world.callers.write_text('[[caller]]\nname = "x"\ncertificate = "x"\nroles = ["read"]\n')

        async def is_refused() -> bool:
            try:
                await count(channel, "a/1", bearer(WRITER))
            except grpc.aio.AioRpcError as error:
                return error.code() is grpc.StatusCode.UNAUTHENTICATED
            return False

        await eventually(is_refused)


async def test_the_stream_of_a_caller_that_is_taken_out_of_the_file_ends_with_its_next_request(
    world: World,
) -> None:
    event = ingest_pb2.Event(video_id="a/1", event_type="view")
    request = ingest_pb2.StreamEventsRequest(batch=ingest_pb2.ProcessEventsRequest(events=[event]))
    async with world.connect() as channel:
        call = IngestStub(channel).StreamEvents(timeout=60, metadata=bearer(TOKEN_OF_A))
        await call.write(request)
        await call.read()
        world.callers.write_text('[[caller]]\nname = "x"\ncertificate = "x"\nroles = ["read"]\n')

        async def is_ended() -> bool:
            try:
                await call.write(request)
                return await call.read() is grpc.aio.EOF
            except grpc.aio.AioRpcError:
                return True

        await eventually(is_ended)
        assert await call.code() is grpc.StatusCode.UNAUTHENTICATED
        counted = len(world.ingest.videos)
        await refusal(count(channel, "a/1", bearer(TOKEN_OF_A)))
    assert len(world.ingest.videos) == counted


def rss_mib() -> float:
    return float(psutil.Process().memory_info().rss) / 1024 / 1024


def bad_calls(channel: grpc.aio.Channel, number: int) -> Iterator[Awaitable[object]]:
    """Of several kinds, each with a body that nobody should read."""
    body = ingest_pb2.CountEventRequest(
        video_id="v", event_type="view", actor_id=60_000 * "x"
    ).SerializeToString()
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{INGEST}/CountEvent")
    for n in range(number):
        metadata = (bearer(f"guess-{n}"), bearer(f"a.b.{n}"), (("authorization", f"{n}"),), None)[n % 4]
        yield call(body, timeout=60, metadata=metadata)


async def attack(world: World, number: int, at_once: int) -> None:
    async with AsyncExitStack() as stack:
        channel = await stack.enter_async_context(world.connect(world.files.channel("nobody")))
        good = await stack.enter_async_context(world.connect())
        calls = bad_calls(channel, number)
        codes: dict[grpc.StatusCode, int] = {}

        async def work() -> None:
            for call in calls:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call
                codes[caught.value.code()] = codes.get(caught.value.code(), 0) + 1

        await asyncio.gather(*(work() for _ in range(at_once)), append(good))
    assert codes == {grpc.StatusCode.UNAUTHENTICATED: number}


async def test_refused_calls_cost_no_memory_and_others_are_served(world: World) -> None:
    await attack(world, 500, 50)  # what gRPC and the interpreter keep for themselves
    before = rss_mib()
    await attack(world, 1_500, 50)
    assert rss_mib() - before < 20  # the bodies alone were 90 MB
    assert world.counting.calls == 2
    assert world.ingest.videos == []


@pytest.mark.long
async def test_ten_thousand_refused_calls_cost_no_memory(world: World) -> None:
    await attack(world, 2_000, 100)
    before = rss_mib()
    await attack(world, 10_000, 100)
    assert rss_mib() - before < 20
    assert world.ingest.videos == []


async def test_health_alone_is_served_without_tls_where_it_is_set(tmp_path: Path) -> None:
    files = make_files(tmp_path / "tls")
    address = f"127.0.0.1:{find_free(1)[0]}"
    settings = ServerSettings(
        address="127.0.0.1:0", grace_seconds=1.0, health_address=address, tls=files.server()
    )
    async with open_server(settings, [counting(Counting())]) as server:
        await server.health.set_serving(COUNTING, True)
        async with grpc.aio.insecure_channel(address) as channel:
            health = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=COUNTING), timeout=10
            )
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await append(channel)
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
