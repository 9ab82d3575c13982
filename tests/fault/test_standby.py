"""A primary whose standby is away: what is only committed there is not durable, however it is reported."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from libs.stores.postgres import PostgresSettings, connect
from libs.stores.write_connection import InDoubt, WriteConnection
from services.counting.spool.drain import Drain
from services.counting.spool.file import Spooled
from tests.support.entries import as_entry, cut_request
from tests.support.eventually import eventually
from tests.support.proof import open_proof
from tests.support.servers import breakable_postgres

pytestmark = [pytest.mark.exact, pytest.mark.asyncio(loop_scope="module")]

_STANDBY = "alter system set synchronous_standby_names = '{name}'"
_RELOAD = "select pg_reload_conf()"
_IS_SET = "select current_setting('synchronous_standby_names') = $1"
_CANCEL = "select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'"
_RECEIVED_AT_US = 1_700_000_000_000_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def primary() -> AsyncIterator[str]:
    """The DSN of one whose commits wait for a standby that never comes, unless they say otherwise."""
    async with breakable_postgres(is_migrated=True) as server:
        async with open_proof(server.url) as connection:
            await connection.execute(_STANDBY.format(name="nobody"))
            await connection.execute(_RELOAD)

            async def is_set() -> bool:
                return bool(await connection.fetchval(_IS_SET, "nobody"))

            await eventually(is_set)
        yield server.url


async def test_a_cancelled_wait_for_the_standby_is_in_doubt_in_any_language(primary: str) -> None:
    """Postgres reports it as success with a warning, whose SQLSTATE is the one of all warnings."""
    async with open_proof(primary) as other:
        connection = WriteConnection(await connect(primary, PostgresSettings(), "a test"))

        async def is_cancelled() -> bool:
            return bool(await other.fetchval(_CANCEL))

        async def write(asyncpg_connection: Any) -> None:
            await asyncpg_connection.execute("create table written ()")

        writing = asyncio.create_task(connection.run(write, timeout_seconds=20))
        await eventually(is_cancelled)
        with pytest.raises(InDoubt):
            await writing
        assert await other.fetchval("select to_regclass('written') is not null")


@pytest.mark.parametrize("is_journaled", [True, False], ids=["journaled elsewhere", "a dead letter"])
async def test_what_leaves_the_spool_is_on_the_standby(primary: str, is_journaled: bool) -> None:
    """An entry that is journaled, but not yet on the standby, and a dead letter that is not: both stay."""
    [entry] = [as_entry(sent) for sent in cut_request({("video", "view"): 1})]
    spooled = Spooled(
        1, entry.request_id, entry.partition, entry.request_hash, _RECEIVED_AT_US, 1, "", entry.payload
    )
    async with open_proof(primary) as other, asyncpg.create_pool(primary, min_size=1, max_size=1) as pool:
        await other.execute("set synchronous_commit = local")
        if is_journaled:
            await other.execute(
                """insert into counting.journal
                    (request_id, partition, log_id, seq, received_at, events, request_hash, payload)
                values ($1, $2, 1, 1, now(), 1, $3, $4)""",
                entry.request_id,
                entry.partition,
                entry.request_hash,
                entry.payload,
            )
        nothing: Any = None
        drain = Drain(nothing, nothing, pool, timeout_seconds=0.5)
        with pytest.raises(InDoubt):
            await drain._set_aside(spooled, "too late")
