"""How far each log is, as an operator asks."""

import asyncio
from typing import Any

import asyncpg

from libs.domain.entry import Outcome
from services.counting.settings import CountingSettings, FlushSettings, RecoverySettings
from services.query.proof import list_logs
from services.query.unsettled import Unsettled
from tests.support.proof import assert_exact, open_proof
from tests.support.shards import open_shard, send

ONE = {("v", "view"): 1}


async def logs(dsn: str) -> list[Any]:
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
        return await list_logs(pool, Unsettled())


async def test_the_lag_is_the_age_of_what_is_unapplied_and_0_when_nothing_is(dsn: str) -> None:
    settings = CountingSettings(flush=FlushSettings(interval_seconds=0.05), recovery=RecoverySettings())
    async with open_proof(dsn) as connection, open_shard(dsn, settings) as shard:
        await asyncio.sleep(0.3)  # the log is so old
        assert await send(shard, ONE) == {Outcome.JOURNALED}
        await assert_exact(dsn, ONE)
        [log] = await logs(dsn)
        assert (log["applied_seq"], log["last_seq"], log["lag_seconds"]) == (1, 1, 0)
        async with connection.transaction():
            await connection.execute("select from counting.checkpoint for update")
            assert await send(shard, ONE) == {Outcome.JOURNALED}
            await asyncio.sleep(0.1)
            [log] = await logs(dsn)
            assert (log["applied_seq"], log["last_seq"]) == (1, 2)
            assert 0.1 <= log["lag_seconds"] < 5.0
        await assert_exact(dsn, {("v", "view"): 2})
