"""What the layer around every method does with good calls and bad ones."""

import asyncio
import gc
import signal
import sys
import weakref
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # it ships no types
from structlog.testing import capture_logs

from libs.rpc.calls import UnaryCall
from libs.rpc.channel import ChannelSettings, open_channel
from libs.rpc.deadline import call_timeout, remaining_seconds
from libs.rpc.server import open_server
from tally.contract.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidRequest,
    Overloaded,
    ServerFault,
    TallyError,
    Unavailable,
    Unimplemented,
    Violation,
)
from tally.contract.status import DETAILS_KEY, error_from_rpc
from tally.counting.v1 import counting_pb2
from tally.ingest.v1 import ingest_pb2
from tests.integration.libs.rpc.servicer import (
    ANY_PORT,
    APPEND,
    CUT_OFF,
    INGEST,
    NOT_UTF8,
    Counting,
    CountingStub,
    Ingest,
    IngestStub,
    counting,
    ingest,
)
from tests.support.eventually import eventually
from tests.support.half_sent import half_sender

MIB = 1024 * 1024
SHORT = ANY_PORT.model_copy(update={"default_deadline_seconds": 0.2, "default_stream_deadline_seconds": 0.3})


@asynccontextmanager
async def channel_to(*servables: Any, settings: Any = ANY_PORT) -> AsyncIterator[grpc.aio.Channel]:
    async with (
        open_server(settings, servables) as server,
        open_channel(server.address, ChannelSettings()) as channel,
    ):
        yield channel


async def refusal(awaitable: Awaitable[object]) -> TallyError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await awaitable
    return error_from_rpc(caught.value)


def append(channel: grpc.aio.Channel, timeout_s: float | None = 10) -> Awaitable[object]:
    call: Awaitable[object] = CountingStub(channel).Append(counting_pb2.AppendRequest(), timeout=timeout_s)
    return call


def raw_call(channel: grpc.aio.Channel, method: str) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
    """A method that is sent the very bytes that the test says."""
    return channel.unary_unary(method)


@pytest.mark.parametrize("data", [NOT_UTF8, CUT_OFF], ids=["not UTF-8", "cut off"])
async def test_bytes_that_do_not_parse_are_an_invalid_argument(data: bytes) -> None:
    servicer = Counting()
    async with channel_to(counting(servicer)) as channel:
        error = await refusal(raw_call(channel, APPEND)(data, timeout=10))
    assert type(error) is InvalidRequest
    assert "tally.counting.v1.AppendRequest" in error.message
    assert servicer.calls == 0


async def test_bytes_that_do_not_parse_end_a_stream_as_an_invalid_argument() -> None:
    async with channel_to(ingest(Ingest())) as channel:
        stream: Any = channel.stream_stream(f"/{INGEST}/StreamEvents")(timeout=10)
        good = ingest_pb2.StreamEventsRequest(batch=ingest_pb2.ProcessEventsRequest(request_id="good"))
        await stream.write(good.SerializeToString())
        first = ingest_pb2.StreamEventsResponse.FromString(await stream.read())
        await stream.write(b"\x0a\x7f")
        error = await refusal(stream.read())
    assert first.receipt.request_id == "good"
    assert type(error) is InvalidRequest


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequest([Violation("video_id", "1 to 128 bytes é")], total=70),
        Overloaded("too much", retry_after_s=1.5),
        Unavailable("Postgres is unreachable"),
        TallyError("a null \0, a line\nand 100 %"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_a_handler_raises_is_what_the_caller_raises(error: TallyError) -> None:
    async def behave() -> None:
        raise error

    async with channel_to(counting(Counting(behave))) as channel:
        call = UnaryCall(CountingStub(channel).Append, APPEND)
        with pytest.raises(type(error)) as caught:
            await call(counting_pb2.AppendRequest(), timeout_s=10)
    assert caught.value.message == error.message
    assert {**vars(error), **vars(caught.value)} == vars(error)


async def test_20_long_violations_of_text_that_is_not_ascii_arrive_as_what_they_are() -> None:
    long = [Violation(f"events[{i}].{'ж' * 500}", "é日本🎬" * 500) for i in range(20)]

    async def behave() -> None:
        raise InvalidRequest(long)

    async with channel_to(counting(Counting(behave))) as channel:
        error = await refusal(append(channel))
    assert isinstance(error, InvalidRequest)
    assert len(error.violations) == 20


async def test_calls_beyond_the_limit_are_refused_with_a_delay_and_health_checks_are_not() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def behave() -> None:
        begun.set()
        await go_on.wait()

    settings = ANY_PORT.model_copy(update={"max_concurrent_rpcs": 1})
    async with channel_to(counting(Counting(behave)), settings=settings) as channel:
        first = asyncio.ensure_future(append(channel))
        await begun.wait()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await append(channel)
        error = error_from_rpc(caught.value)
        assert isinstance(error, Overloaded)
        assert error.delay_s > 0
        assert b"nothing_done" in dict(caught.value.trailing_metadata() or ())[DETAILS_KEY]
        health = health_pb2_grpc.HealthStub(channel)
        await health.Check(health_pb2.HealthCheckRequest(), timeout=10)
        go_on.set()
        await first
        await append(channel)


async def test_an_error_of_a_stream_comes_after_what_was_answered() -> None:
    calls = 0

    async def behave() -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise Overloaded("too much", retry_after_s=1)

    async with channel_to(ingest(Ingest(behave))) as channel:
        stream = IngestStub(channel).StreamEvents(timeout=10)
        await stream.write(ingest_pb2.StreamEventsRequest())
        assert (await stream.read()).HasField("receipt")
        await stream.write(ingest_pb2.StreamEventsRequest())
        assert type(await refusal(stream.read())) is Overloaded


async def test_an_unexpected_exception_keeps_its_text_and_is_found_in_the_log() -> None:
    async def behave() -> None:
        raise LookupError("password=hunter2")

    async with channel_to(counting(Counting(behave))) as channel:
        with capture_logs() as logs, pytest.raises(grpc.aio.AioRpcError) as caught:
            await append(channel)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "hunter2" not in str(caught.value)
    assert "LookupError" not in str(caught.value)
    error = error_from_rpc(caught.value)
    [line] = [line for line in logs if line["log_level"] == "error"]
    assert line["error_id"] == error.metadata["error_id"]
    assert line["error_id"] in error.message
    assert "hunter2" in str(line["exc_info"])


async def test_a_method_that_nobody_wrote_is_unimplemented() -> None:
    async with channel_to(ingest(Ingest())) as channel:
        error = await refusal(IngestStub(channel).CountEvent(ingest_pb2.CountEventRequest(), timeout=10))
    assert type(error) is Unimplemented


async def test_a_method_that_is_not_there_is_unimplemented() -> None:
    async with channel_to(counting(Counting())) as channel:
        error = await refusal(
            raw_call(channel, "/tally.counting.v1.CountingService/Nothing")(b"", timeout=10)
        )
    assert type(error) is Unimplemented


async def test_a_cancellation_from_within_is_answered_at_once_as_unavailable() -> None:
    async def behave() -> None:
        flush: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        flush.cancel()
        await flush

    async with channel_to(counting(Counting(behave))) as channel:
        # without an answer it would be the deadline that ends it
        assert type(await refusal(append(channel))) is Unavailable


async def test_a_caller_that_goes_away_ends_the_handler_and_nothing_else() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def behave() -> None:
        if ended.is_set():
            return
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with channel_to(counting(Counting(behave))) as channel:
        call = asyncio.ensure_future(append(channel))
        await begun.wait()
        call.cancel()
        await asyncio.wait_for(ended.wait(), 10)
        assert await append(channel) == counting_pb2.AppendResponse()


async def test_a_cancelled_status_from_the_other_side_is_an_error_and_no_cancellation() -> None:
    async def behave() -> None:
        raise Cancelled("by an operator")

    async with channel_to(counting(Counting(behave))) as channel:
        assert type(await refusal(append(channel))) is Cancelled


async def test_the_deadline_of_the_caller_is_what_the_handler_sees() -> None:
    seen: list[float | None] = []

    async def behave() -> None:
        seen.extend([remaining_seconds(), call_timeout(cap_s=3, shave_s=0.5)])

    async with channel_to(counting(Counting(behave))) as channel:
        await append(channel, timeout_s=100)
    [remaining, capped] = seen
    assert remaining is not None
    assert 90 < remaining <= 101.1  # gRPC sends whole seconds, rounded up
    assert capped == 3


async def test_a_call_without_a_deadline_gets_the_default() -> None:
    seen: list[float | None] = []

    async def behave() -> None:
        seen.append(remaining_seconds())

    async with channel_to(counting(Counting(behave))) as channel:
        await append(channel, timeout_s=None)
    [remaining] = seen
    assert remaining is not None
    assert ANY_PORT.default_deadline_seconds - 10 < remaining <= ANY_PORT.default_deadline_seconds


async def hold(ended: asyncio.Event) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.set()


async def test_a_handler_that_overruns_the_default_deadline_is_ended() -> None:
    ended = asyncio.Event()
    async with channel_to(counting(Counting(lambda: hold(ended))), settings=SHORT) as channel:
        assert type(await refusal(append(channel, timeout_s=None))) is DeadlineExceeded
        assert ended.is_set()


async def test_a_stream_that_overruns_its_default_deadline_is_ended() -> None:
    async with channel_to(ingest(Ingest()), settings=SHORT) as channel:
        stream = IngestStub(channel).StreamEvents()
        await stream.write(ingest_pb2.StreamEventsRequest())
        await stream.read()
        assert type(await refusal(stream.read())) is DeadlineExceeded


async def test_a_handler_that_overruns_the_caller_s_deadline_is_ended() -> None:
    ended = asyncio.Event()
    async with channel_to(counting(Counting(lambda: hold(ended)))) as channel:
        assert type(await refusal(append(channel, timeout_s=0.2))) is DeadlineExceeded
        await asyncio.wait_for(ended.wait(), 10)


async def test_a_time_out_inside_a_handler_before_the_deadline_is_not_the_caller_s() -> None:
    async def behave() -> None:
        raise TimeoutError("of a statement")

    async with channel_to(counting(Counting(behave))) as channel:
        with capture_logs():
            assert type(await refusal(append(channel))) is ServerFault


CALLER = """
import asyncio, sys, grpc
async def main():
    async with grpc.aio.insecure_channel(sys.argv[1]) as channel:
        await channel.unary_unary(sys.argv[2])(b"", timeout=1)
asyncio.run(main())
"""


async def test_the_server_itself_ends_a_call_whose_caller_is_frozen() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def behave() -> None:
        begun.set()
        await hold(ended)

    async with open_server(ANY_PORT, [counting(Counting(behave))]) as server:
        caller = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CALLER, server.address, APPEND, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            await asyncio.wait_for(begun.wait(), 30)
            caller.send_signal(signal.SIGSTOP)
            await asyncio.wait_for(ended.wait(), 10)
        finally:
            caller.kill()
            await caller.wait()


@contextmanager
def no_collections() -> Iterator[None]:
    """Garbage that only a collection would find stays."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Held:
    """In a frame of a handler, as its request is."""


@pytest.mark.parametrize(
    "error",
    [Overloaded("too much", retry_after_s=1), LookupError("a fault")],
    ids=lambda error: type(error).__name__,
)
async def test_a_refused_call_keeps_nothing_of_what_its_handler_held(error: Exception) -> None:
    held: list[weakref.ref[Held]] = []

    async def behave() -> None:
        in_frame = Held()
        held.append(weakref.ref(in_frame))
        try:
            raise TypeError("the cause")
        except TypeError as cause:
            raise error from cause

    async with channel_to(counting(Counting(behave)), ingest(Ingest(behave))) as channel:
        with capture_logs() as logs, no_collections():
            for _ in range(3):
                with pytest.raises(grpc.aio.AioRpcError):
                    await append(channel)
                stream = IngestStub(channel).StreamEvents(timeout=10)
                await stream.write(ingest_pb2.StreamEventsRequest())
                with pytest.raises(grpc.aio.AioRpcError):
                    await stream.read()
            logs.clear()

            async def is_gone() -> bool:
                return [each() for each in held] == [None] * 6

            await eventually(is_gone)


async def test_a_call_whose_caller_has_gone_keeps_nothing_of_what_its_handler_held() -> None:
    held: list[weakref.ref[Held]] = []

    async def behave() -> None:
        in_frame = Held()
        held.append(weakref.ref(in_frame))
        await asyncio.Event().wait()

    async with channel_to(counting(Counting(behave))) as channel:
        with no_collections():
            with pytest.raises(grpc.aio.AioRpcError):
                await append(channel, timeout_s=0.1)

            async def is_gone() -> bool:
                return [each() for each in held] == [None]

            await eventually(is_gone)


async def test_a_call_without_a_request_is_an_invalid_argument() -> None:
    async with channel_to(counting(Counting())) as channel:
        call: Any = channel.stream_unary(APPEND)(timeout=10)
        await call.done_writing()
        assert type(await refusal(call)) is InvalidRequest


async def test_bytes_under_way_are_bounded_before_they_are_parsed() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def behave() -> None:
        begun.set()
        await go_on.wait()

    body = counting_pb2.AppendRequest(entries=[counting_pb2.Entry(payload=bytes(600))]).SerializeToString()
    settings = ANY_PORT.model_copy(update={"max_bytes_under_way": 1000})
    async with channel_to(counting(Counting(behave)), settings=settings) as channel:
        first = asyncio.ensure_future(raw_call(channel, APPEND)(body, timeout=10))
        await begun.wait()
        error = await refusal(raw_call(channel, APPEND)(body, timeout=10))
        assert isinstance(error, Overloaded)
        assert error.delay_s > 0
        await refusal(raw_call(channel, APPEND)(b"\xff" * 600, timeout=10))  # refused without a look at it
        go_on.set()
        await first
        await raw_call(channel, APPEND)(body, timeout=10)


async def test_streams_of_requests_beyond_their_limit_are_refused_and_single_requests_are_not() -> None:
    settings = ANY_PORT.model_copy(update={"max_request_streams": 1})
    async with channel_to(ingest(Ingest()), counting(Counting()), settings=settings) as channel:
        first = IngestStub(channel).StreamEvents(timeout=10)
        await first.write(ingest_pb2.StreamEventsRequest())
        await first.read()
        second = IngestStub(channel).StreamEvents(timeout=10)
        assert type(await refusal(second.read())) is Overloaded
        await append(channel)
        await first.done_writing()


async def test_connections_beyond_their_limit_are_closed() -> None:
    settings = ANY_PORT.model_copy(update={"max_connections": 1})
    async with (
        open_server(settings, [counting(Counting())]) as server,
        open_channel(server.address, ChannelSettings(max_attempts=1)) as first,
    ):
        await append(first)
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(server.address, options=options) as second:
            assert type(await refusal(append(second, timeout_s=1))) in (Unavailable, DeadlineExceeded)
        await append(first)


async def test_half_sent_requests_take_no_more_than_their_slots_and_windows() -> None:
    """Without the slots the server would take all of each: 40 times 8 MiB."""
    settings = ANY_PORT.model_copy(update={"max_receiving_rpcs": 2, "receive_timeout_seconds": 1.0})
    async with open_server(settings, [counting(Counting())]) as server, half_sender(server.address) as sender:
        sender.begin(APPEND, 8 * MIB, 40)

        async def has_sent_two() -> bool:
            return sender.sent_bytes > 17 * MIB

        async def are_all_ended() -> bool:
            return len(sender.ended) == 40

        await eventually(has_sent_two)
        await eventually(are_all_ended)  # each when it had its time, or had waited for a slot too long
        async with open_channel(server.address, ChannelSettings()) as channel:
            await append(channel)
        assert sender.sent_bytes < 2 * 8 * MIB * 4 + 40 * 70_000


async def test_a_gzip_bomb_is_inflated_no_further_than_the_largest_message() -> None:
    servicer = Counting()
    async with open_server(ANY_PORT, [counting(servicer)]) as server:
        options = [("grpc.max_send_message_length", -1)]
        async with grpc.aio.insecure_channel(
            server.address, compression=grpc.Compression.Gzip, options=options
        ) as channel:
            await append(channel)
            bomb = counting_pb2.Entry(payload=bytes(64 * MIB))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await CountingStub(channel).Append(counting_pb2.AppendRequest(entries=[bomb]), timeout=30)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in str(caught.value.details())
    assert servicer.calls == 1


@pytest.mark.parametrize("field", [b"\x12\x00", b"\x92\x00\x00"], ids=["usual tag", "long tag"])
async def test_an_append_of_millions_of_empty_entries_is_refused_before_it_is_parsed(field: bytes) -> None:
    servicer = Counting()
    async with channel_to(counting(servicer)) as channel:
        error = await refusal(raw_call(channel, APPEND)(field * 1_000_000, timeout=10))
    assert isinstance(error, InvalidRequest)
    assert error.violations == (Violation("entries", "must be at most 20,000; cut the request"),)
    assert servicer.calls == 0
