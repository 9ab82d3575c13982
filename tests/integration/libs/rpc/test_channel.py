"""A channel against servers that come, go and refuse."""

import asyncio

import pytest

from libs.rpc.calls import UnaryCall
from libs.rpc.channel import ChannelSettings, open_channel
from libs.rpc.server import open_server
from tally.contract.errors import Overloaded, Unavailable
from tally.counting.v1 import counting_pb2
from tests.integration.libs.rpc.servicer import (
    ANY_PORT,
    APPEND,
    COUNTING,
    Counting,
    CountingStub,
    counting,
)

REQUEST = counting_pb2.AppendRequest()


class Failing(Counting):
    """Fails the first `times` calls."""

    def __init__(self, times: int, error: Exception) -> None:
        async def behave() -> None:
            if self.calls <= times:
                raise error

        super().__init__(behave)


async def test_unavailable_is_tried_again() -> None:
    servicer = Failing(3, Unavailable("not now"))
    async with (
        open_server(ANY_PORT, [counting(servicer)]) as server,
        open_channel(server.address, ChannelSettings()) as channel,
    ):
        await UnaryCall(CountingStub(channel).Append, APPEND)(REQUEST, timeout_s=20)
    assert servicer.calls == 4


async def test_attempts_are_bounded_and_the_last_error_is_told() -> None:
    servicer = Failing(100, Unavailable("not now"))
    async with (
        open_server(ANY_PORT, [counting(servicer)]) as server,
        open_channel(server.address, ChannelSettings(max_attempts=2)) as channel,
    ):
        with pytest.raises(Unavailable, match="not now"):
            await UnaryCall(CountingStub(channel).Append, APPEND)(REQUEST, timeout_s=20)
    assert servicer.calls == 2


async def test_overload_is_not_answered_with_more_load() -> None:
    servicer = Failing(100, Overloaded("full", retry_after_s=1))
    async with (
        open_server(ANY_PORT, [counting(servicer)]) as server,
        open_channel(server.address, ChannelSettings()) as channel,
    ):
        with pytest.raises(Overloaded):
            await UnaryCall(CountingStub(channel).Append, APPEND)(REQUEST, timeout_s=20)
    assert servicer.calls == 1


async def test_nobody_there_is_unavailable() -> None:
    async with open_channel("127.0.0.1:1", ChannelSettings()) as channel:
        with pytest.raises(Unavailable):
            await UnaryCall(CountingStub(channel).Append, APPEND)(REQUEST, timeout_s=20)


async def test_calls_go_to_the_server_that_says_it_is_serving() -> None:
    ready, unready = Counting(), Counting()
    async with (
        open_server(ANY_PORT, [counting(ready)]) as first,
        open_server(ANY_PORT, [counting(unready)]) as second,
        open_channel(
            f"ipv4:{first.address},{second.address}", ChannelSettings(health_service=COUNTING)
        ) as channel,
    ):
        await first.health.set_serving(COUNTING, True)
        async with asyncio.timeout(20):
            await channel.channel_ready()
        for _ in range(10):
            await UnaryCall(CountingStub(channel).Append, APPEND)(REQUEST, timeout_s=20)
    assert (ready.calls, unready.calls) == (10, 0)


async def test_calls_are_spread_over_all_servers() -> None:
    one, other = Counting(), Counting()
    async with (
        open_server(ANY_PORT, [counting(one)]) as first,
        open_server(ANY_PORT, [counting(other)]) as second,
        open_channel(f"ipv4:{first.address},{second.address}", ChannelSettings()) as channel,
    ):
        call = UnaryCall(CountingStub(channel).Append, APPEND)
        async with asyncio.timeout(20):
            while not (one.calls and other.calls):
                await call(REQUEST, timeout_s=20)
