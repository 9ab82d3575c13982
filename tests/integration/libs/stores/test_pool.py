"""Pools for reads and upkeep: nothing waits for ever, and an error names its cause."""

import asyncio
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from libs.stores.pool import open_pool
from libs.stores.postgres import PostgresSettings, reaching_postgres
from libs.stores.server_clock import ServerClock
from tally.contract.errors import ReadTooLarge, Unavailable
from tests.support.proxy import Proxy, open_proxy

SETTINGS = PostgresSettings(pool_size=2, connect_timeout_seconds=0.5, statement_timeout_seconds=0.5)
_RAISE = """
do $$ begin raise exception '{message}' using errcode = '{state}', hint = 'this is the hint'; end $$"""


@pytest_asyncio.fixture
async def proxy(dsn: str) -> AsyncIterator[Proxy]:
    async with open_proxy(dsn) as opened:
        yield opened


async def test_no_use_of_a_pool_outlasts_its_limits_when_the_server_is_silent(proxy: Proxy) -> None:
    async with open_pool(proxy.dsn, SETTINGS, "test") as pool:
        held = await pool.acquire()
        proxy.silence(new=True)
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await held.fetchval("select 1")
        with pytest.raises(TimeoutError):
            await pool.fetchval("select 1")  # over a new connection
        await asyncio.gather(pool.release(held), return_exceptions=True)
        assert time.monotonic() - began < 5.0


async def test_a_reading_of_the_clock_ends_when_the_server_is_silent(proxy: Proxy) -> None:
    async with open_pool(proxy.dsn, SETTINGS, "test") as pool:
        clock = ServerClock()
        await clock.read(pool)
        proxy.silence(new=True)
        with pytest.raises(TimeoutError):
            await clock.read(pool)
        before_us = clock.now_us()
        assert abs(before_us - time.time_ns() // 1000) < 1_000_000  # it goes on from the reading before


async def test_a_wait_for_a_free_connection_has_a_limit(dsn: str) -> None:
    async with open_pool(dsn, SETTINGS, "test") as pool, pool.acquire(), pool.acquire():
        with pytest.raises(Unavailable, match="every connection to it is busy"), reaching_postgres():
            await pool.fetchval("select 1")


async def test_a_statement_that_takes_too_long_is_cancelled_by_the_server(dsn: str) -> None:
    async with open_pool(dsn, SETTINGS, "test") as pool:
        with pytest.raises(ReadTooLarge, match=r"statement timeout.*narrower range"), reaching_postgres():
            await pool.fetchval("select pg_sleep(20)")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("53200", "out of shared memory"),
        ("53300", "sorry, too many clients already"),
        ("57P03", "the database system is starting up"),
        ("40001", "canceling statement due to conflict with recovery"),
    ],
)
async def test_what_postgres_refuses_is_told_in_its_own_words(dsn: str, state: str, message: str) -> None:
    async with open_pool(dsn, SETTINGS, "test") as pool:
        with pytest.raises(Unavailable) as caught, reaching_postgres():
            await pool.execute(_RAISE.format(message=message, state=state))
    assert message in caught.value.message
    assert "this is the hint" in caught.value.message
    assert "cannot be reached" not in caught.value.message


async def test_a_mistake_of_ours_stays_what_it_is(dsn: str) -> None:
    async with open_pool(dsn, SETTINGS, "test") as pool:
        with pytest.raises(asyncpg.UndefinedTableError), reaching_postgres():
            await pool.fetchval("select from nothing_of_the_kind")


async def test_a_server_that_is_not_needed_at_the_start_may_be_away(proxy: Proxy) -> None:
    proxy.shut()
    async with open_pool(proxy.dsn, SETTINGS, "test", is_needed_at_start=False) as pool:
        with pytest.raises(Unavailable, match="cannot be reached"), reaching_postgres():
            await pool.fetchval("select 1")
        proxy.reopen()
        assert await pool.fetchval("select 1") == 1
