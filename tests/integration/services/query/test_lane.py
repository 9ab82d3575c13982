"""A lane's bounds, for all callers and for each."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from libs.stores.pool import open_pool
from libs.stores.postgres import PostgresSettings
from services.query.lane import Lane, caller_of
from tally.contract.errors import Overloaded


@pytest_asyncio.fixture
async def lane(dsn: str) -> AsyncIterator[Lane]:
    """Two at once, one more waits, two for each caller."""
    settings = PostgresSettings(pool_size=2)
    async with open_pool(dsn, settings, "lane", is_needed_at_start=False) as pool:
        yield Lane("reads", pool, advice="ask later", most_waiting=1, most_per_caller=2, wait_seconds=0.2)


async def test_one_caller_has_no_more_than_his_part_and_leaves_room_for_others(lane: Lane) -> None:
    async with lane.connection_for("a"), AsyncExitStack() as stack:
        await stack.enter_async_context(lane.connection_for("a"))
        with pytest.raises(Overloaded, match=r"2 of them from one address\); ask later"):
            async with lane.connection_for("a"):
                pass
        with pytest.raises(Overloaded, match="none of those before has ended within"):
            async with lane.connection_for("b"):
                pass
        await stack.aclose()
        async with lane.connection_for("b") as connection:
            assert await connection.fetchval("select 1") == 1


async def test_those_beyond_the_waiting_are_refused_at_once(lane: Lane) -> None:
    async with lane.connection_for("a"), lane.connection_for("b"):
        waiting = lane.connection_for("c")
        entering = asyncio.create_task(waiting.__aenter__())
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="3 of them"):
            async with lane.connection_for("d"):
                pass
        with pytest.raises(Overloaded):
            await entering


async def test_who_is_cancelled_while_waiting_gives_the_place_back(lane: Lane) -> None:
    async with lane.connection_for("a"), lane.connection_for("b"):
        entering = asyncio.create_task(lane.connection_for("c").__aenter__())
        await asyncio.sleep(0)
        entering.cancel()
        await asyncio.gather(entering, return_exceptions=True)
    async with lane.connection_for("c"), lane.connection_for("c"):
        pass


@pytest.mark.parametrize(
    ("peer", "caller"),
    [
        ("ipv4:10.0.0.7:51234", "ipv4:10.0.0.7"),
        ("ipv6:%5B2001:db8::1%5D:443", "ipv6:%5B2001:db8::1%5D"),
        ("unix:", "unix:"),
        ("unix:/tmp/a.sock", "unix:/tmp/a.sock"),
    ],
)
def test_a_caller_is_an_address_without_its_port(peer: str, caller: str) -> None:
    assert caller_of(peer) == caller
