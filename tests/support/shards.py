"""One shard in the test's own process, without a server before it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from libs.domain.entry import Outcome
from libs.runtime.background import open_background
from libs.stores.postgres import PostgresSettings
from libs.stores.server_clock import ServerClock
from libs.telemetry.setup import OFF
from services.counting.app import open_upkeep_pool
from services.counting.settings import CountingSettings, FlushSettings, RecoverySettings
from services.counting.shard import Shard
from services.counting.spool.drain import Drain
from services.counting.spool.spool import open_spool
from tests.support.entries import Counts, as_entry, cut_request
from tests.support.eventually import eventually

NEVER = 30.0
"""A flush interval, in seconds, that no test lives to see."""

FAST = RecoverySettings(
    heartbeat_seconds=0.2,
    takeover_seconds=2.0,
    statement_timeout_seconds=1.5,
    transaction_timeout_seconds=1.5,
)


def quick(flush_seconds: float = 0.05, recovery: RecoverySettings = FAST) -> CountingSettings:
    """Settings with which what has to be waited for comes soon."""
    return CountingSettings(flush=FlushSettings(interval_seconds=flush_seconds), recovery=recovery)


@asynccontextmanager
async def open_shard(
    dsn: str,
    settings: CountingSettings | None = None,
    name: str = "shard",
    *,
    is_killed: bool = False,
    spool_folder: Path | None = None,
) -> AsyncIterator[Shard]:
    """A shard that takes entries, with a spool if there is a folder for it.

    It stops in good order at the end, or with `is_killed` just ends.
    """
    postgres, settings = PostgresSettings(pool_size=4), settings or quick()
    async with (
        open_upkeep_pool(dsn, postgres, settings.recovery, name) as pool,
        open_background() as background,
        AsyncExitStack() as stack,
    ):
        clock = ServerClock()
        await clock.read(pool)
        spool = None
        if spool_folder is not None:
            cluster_id = await pool.fetchval("select cluster_id from public.cluster")
            spool = await stack.enter_async_context(
                open_spool(settings.spool, spool_folder, name, cluster_id)
            )
            stack.push_async_callback(background.stop)
        shard = Shard(name, dsn, pool, clock, postgres, settings, OFF, spool)
        logs = background.start("logs", shard.run_logs())
        drain = (
            None
            if spool is None
            else Drain(spool, shard, pool, settings.recovery.transaction_timeout_seconds)
        )
        if drain is not None:
            background.start("drain", drain.loop.run())
        background.start("recovery", shard.failover.loop.run())

        async def is_ready() -> bool:
            return shard.is_ready or not background.is_alive

        await eventually(is_ready)
        yield shard
        if not is_killed:
            if drain is not None:
                await drain.finish(settings.spool.drain_seconds)
            shard.stop()
            await logs


async def send(shard: Shard, counts: Counts, request_id: Any = None) -> set[Outcome]:
    """Append one request; the different outcomes of its entries."""
    return set(await shard.append([as_entry(entry) for entry in cut_request(counts, request_id)]))


async def wait_for(task: "asyncio.Future[Any]", seconds: float = 20.0) -> Any:
    """The result of what should not take long."""
    async with asyncio.timeout(seconds):
        return await task
