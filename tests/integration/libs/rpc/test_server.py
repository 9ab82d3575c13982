"""A server from its first port to its last call."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # it ships no types
from grpc_reflection.v1alpha import (  # type: ignore[import-untyped]  # it ships no types
    reflection_pb2,
    reflection_pb2_grpc,
)

from libs.rpc.channel import ChannelSettings, open_channel
from libs.rpc.server import OpenServer, ServerSettings, open_server
from tally.contract.errors import NotReady, Unavailable
from tally.contract.status import error_from_rpc
from tally.counting.v1 import counting_pb2
from tally.ingest.v1 import ingest_pb2
from tests.integration.libs.rpc.servicer import (
    ANY_PORT,
    COUNTING,
    INGEST,
    Counting,
    CountingStub,
    Ingest,
    IngestStub,
    counting,
    ingest,
)

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def health_of(channel: grpc.aio.Channel, name: str) -> int:
    response = await health_pb2_grpc.HealthStub(channel).Check(
        health_pb2.HealthCheckRequest(service=name), timeout=5
    )
    status: int = response.status
    return status


async def append(channel: grpc.aio.Channel, **options: Any) -> counting_pb2.AppendResponse:
    stub = CountingStub(channel)
    response: counting_pb2.AppendResponse = await stub.Append(counting_pb2.AppendRequest(), **options)
    return response


class Run:
    """A server that a test opens, and closes when it likes."""

    def __init__(self, settings: ServerSettings, *servables: Any) -> None:
        self._stack = AsyncExitStack()
        self._settings = settings
        self._servables = servables

    async def open(self) -> OpenServer:
        return await self._stack.enter_async_context(open_server(self._settings, self._servables))

    async def close(self) -> None:
        await self._stack.aclose()


@asynccontextmanager
async def channel_to(server: OpenServer) -> AsyncIterator[grpc.aio.Channel]:
    async with open_channel(server.address, ChannelSettings()) as channel:
        yield channel


async def test_nothing_is_serving_until_it_is_said_and_the_whole_is_when_all_are() -> None:
    services = [counting(Counting()), ingest(Ingest())]
    async with open_server(ANY_PORT, services) as server, channel_to(server) as channel:
        assert [await health_of(channel, name) for name in ("", COUNTING, INGEST)] == [NOT_SERVING] * 3
        await server.health.set_serving(COUNTING, True)
        assert await health_of(channel, COUNTING) == SERVING
        assert await health_of(channel, "") == NOT_SERVING
        await server.health.set_serving(INGEST, True)
        assert await health_of(channel, "") == SERVING
        await server.health.set_serving(COUNTING, False)
        assert await health_of(channel, COUNTING) == NOT_SERVING
        assert await health_of(channel, "") == NOT_SERVING


async def test_a_service_that_is_not_there_cannot_be_said_to_serve() -> None:
    async with open_server(ANY_PORT, [counting(Counting())]) as server:
        with pytest.raises(KeyError, match="IngestService"):
            await server.health.set_serving(INGEST, True)


async def test_reflection_lists_every_service() -> None:
    async with open_server(ANY_PORT, [counting(Counting())]) as server, channel_to(server) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=5
        )
        [answer] = [response async for response in call]
        names = {service.name for service in answer.list_services_response.service}
        assert names == {
            COUNTING,
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
        }


async def test_a_server_listens_on_a_unix_socket_too(tmp_path: Path) -> None:
    settings = ServerSettings(address=f"unix:{tmp_path}/tally.sock")
    async with open_server(settings, [counting(Counting())]) as server, channel_to(server) as channel:
        assert server.address == settings.address
        await append(channel, timeout=5)


async def test_a_unix_socket_in_no_folder_is_not_ready(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/missing/tally.sock"
    with pytest.raises(NotReady, match=f"cannot listen on {address}"):
        async with open_server(ServerSettings(address=address), []):
            pass


async def test_two_servers_never_share_a_port() -> None:
    async with open_server(ANY_PORT, []) as first:
        with pytest.raises(NotReady, match="this process itself"):
            async with open_server(ServerSettings(address=first.address), []):
                pass


async def test_a_taken_port_is_refused_with_the_process_that_has_it() -> None:
    script = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"
    with subprocess.Popen(  # noqa: S603 - it only prints a line
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        port = int(holder.stdout.readline())
        with pytest.raises(NotReady) as caught:
            async with open_server(ServerSettings(address=f"127.0.0.1:{port}"), []):
                pass
        holder.communicate("\n")
    assert f"port {port} is taken by pid {holder.pid}" in caught.value.message
    assert "socket.create_server" in caught.value.message


async def test_an_address_that_is_not_of_this_machine_is_not_ready() -> None:
    with pytest.raises(NotReady, match=r"cannot listen on 192\.0\.2\.1:50051"):
        async with open_server(ServerSettings(address="192.0.2.1:50051", open=True), []):
            pass


async def test_leaving_says_not_serving_first_and_still_takes_calls_during_the_drain_delay() -> None:
    settings = ANY_PORT.model_copy(update={"drain_delay_seconds": 60})
    run = Run(settings, counting(Counting()))
    server = await run.open()
    async with channel_to(server) as channel:
        await server.health.set_serving(COUNTING, True)
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=COUNTING))
        assert (await watch.read()).status == SERVING
        leaving = asyncio.create_task(run.close())
        assert (await watch.read()).status == NOT_SERVING
        assert await health_of(channel, "") == NOT_SERVING
        await append(channel, timeout=5)
        assert not leaving.done()
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving


async def test_a_call_under_way_is_answered_within_the_grace() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        begun.set()
        await go_on.wait()

    run = Run(ANY_PORT, counting(Counting(hold)))
    server = await run.open()
    async with channel_to(server) as channel:
        call = asyncio.create_task(append(channel, timeout=20))
        await begun.wait()
        leaving = asyncio.create_task(run.close())
        async with open_channel(server.address, ChannelSettings()) as late:
            while True:  # until the server refuses new calls
                try:
                    await asyncio.wait_for(late.channel_ready(), 0.2)
                except TimeoutError:
                    break
        assert not leaving.done()
        go_on.set()
        assert await call == counting_pb2.AppendResponse()
        await leaving


async def test_a_call_that_outlasts_the_grace_is_unavailable() -> None:
    begun = asyncio.Event()

    async def hold() -> None:
        begun.set()
        await asyncio.Event().wait()

    run = Run(ANY_PORT.model_copy(update={"grace_seconds": 0.1}), counting(Counting(hold)))
    server = await run.open()
    async with channel_to(server) as channel:
        call = asyncio.create_task(append(channel, timeout=20))
        await begun.wait()
        await run.close()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert type(error_from_rpc(caught.value)) is Unavailable


async def test_a_cancelled_leave_ends_the_calls_under_way_and_is_cancelled() -> None:
    begun = asyncio.Event()

    async def hold() -> None:
        begun.set()
        await asyncio.Event().wait()

    run = Run(ANY_PORT.model_copy(update={"grace_seconds": 60}), counting(Counting(hold)))
    server = await run.open()
    async with channel_to(server) as channel:
        call = asyncio.create_task(append(channel, timeout=20))
        await begun.wait()
        leaving = asyncio.create_task(run.close())
        await asyncio.sleep(0)
        started = time.monotonic()
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        with pytest.raises(grpc.aio.AioRpcError):
            await call
        assert time.monotonic() - started < 10


async def test_the_port_is_free_after_leaving() -> None:
    async with open_server(ANY_PORT, []) as first:
        address = first.address
    async with open_server(ServerSettings(address=address), []) as second:
        assert second.address == address


async def test_idle_streams_and_watchers_do_not_use_up_the_grace() -> None:
    run = Run(ANY_PORT.model_copy(update={"grace_seconds": 60}), ingest(Ingest()))
    server = await run.open()
    async with channel_to(server) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        await watch.read()
        stub = IngestStub(channel)
        stream = stub.StreamEvents(timeout=30)
        await stream.write(ingest_pb2.StreamEventsRequest())
        await stream.read()
        started = time.monotonic()
        await run.close()
        assert time.monotonic() - started < 10
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_what_a_stream_had_read_is_answered_before_the_server_stops() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        begun.set()
        await go_on.wait()

    run = Run(ANY_PORT, ingest(Ingest(hold)))
    server = await run.open()
    async with channel_to(server) as channel:
        stub = IngestStub(channel)
        stream = stub.StreamEvents(timeout=30)
        batch = ingest_pb2.ProcessEventsRequest(request_id="read before the stop")
        await stream.write(ingest_pb2.StreamEventsRequest(batch=batch))
        await begun.wait()
        leaving = asyncio.create_task(run.close())
        await asyncio.sleep(0)
        go_on.set()
        response = await stream.read()
        assert response.receipt.request_id == "read before the stop"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
        assert "server is stopping" in str(caught.value.details())
        await leaving


async def test_no_call_fails_when_connections_end_by_their_age() -> None:
    peers: set[str] = set()

    class Slow(Counting):
        async def Append(self, request: Any, context: Any) -> counting_pb2.AppendResponse:  # noqa: N802 - the proto's
            peers.add(context.peer())
            await asyncio.sleep(0.005)
            return await super().Append(request, context)

    settings = ANY_PORT.model_copy(
        update={"max_connection_age_seconds": 0.1, "max_connection_age_grace_seconds": 20}
    )
    async with (
        open_server(settings, [counting(Slow())]) as server,
        # Without gRPC's retries: what no server has begun to handle is sent again even so.
        open_channel(server.address, ChannelSettings(max_attempts=1)) as channel,
    ):

        async def call_until_five_connections() -> int:
            calls = 0
            while len(peers) < 5:
                await append(channel, timeout=20)
                calls += 1
            return calls

        async with asyncio.timeout(20):
            counts = await asyncio.gather(*(call_until_five_connections() for _ in range(10)))
    assert sum(counts) > 50


async def write_and_read(stream: Any) -> tuple[list[str], list[str]]:
    """Send batches one after the other until the stream ends; the ids that were sent, and those answered."""
    sent: list[str] = []
    answered: list[str] = []
    with suppress(grpc.aio.AioRpcError):
        while not stream.done():
            batch = ingest_pb2.ProcessEventsRequest(request_id=str(len(sent)))
            await stream.write(ingest_pb2.StreamEventsRequest(batch=batch))
            sent.append(batch.request_id)
            answered.append((await stream.read()).receipt.request_id)
            await asyncio.sleep(0.005)
    return sent, answered


async def test_a_stream_ends_in_good_order_before_its_connection_is_cut() -> None:
    settings = ANY_PORT.model_copy(
        update={"max_connection_age_seconds": 0.1, "max_connection_age_grace_seconds": 2}
    )
    async with open_server(settings, [ingest(Ingest())]) as server, channel_to(server) as channel:
        for _ in range(2):  # and so does the next one
            stream = IngestStub(channel).StreamEvents(timeout=20)
            sent, answered = await write_and_read(stream)
            # A write that meets the end makes gRPC's own client say the second.
            assert await stream.details() in (
                "this stream has lasted long enough; send what has no answer again, on another one",
                "Internal error from Core",
            )
            assert len(answered) > 10
            assert answered in (sent, sent[:-1])


async def test_an_idle_stream_ends_by_its_age_too() -> None:
    settings = ANY_PORT.model_copy(update={"max_connection_age_grace_seconds": 0.5})
    async with open_server(settings, [ingest(Ingest())]) as server, channel_to(server) as channel:
        stream = IngestStub(channel).StreamEvents(timeout=20)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
        assert "this stream has lasted long enough" in str(caught.value.details())


async def test_a_server_that_others_can_reach_does_not_start_without_tls_and_roles() -> None:
    with pytest.raises(NotReady, match="TALLY_SERVER__OPEN=true"):
        async with open_server(ServerSettings(address="0.0.0.0:0"), []):
            pass
