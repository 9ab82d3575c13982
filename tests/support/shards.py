"""One shard in the test's own process, without a server before it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from libs.runtime.background import open_background
from libs.stores.postgres import PostgresSettings
from libs.stores.server_clock import ServerClock
from libs.telemetry.setup import OFF
from services.counting.app import open_upkeep_pool
from services.counting.entry import Outcome
from services.counting.settings import CountingSettings, FlushSettings, RecoverySettings
from services.counting.shard import Shard
from tests.support.entries import Counts, as_entry, cut_request
from tests.support.eventually import eventually

NEVER = 30.0
"""A flush interval, in seconds, that no test lives to see."""

FAST = RecoverySettings(heartbeat_seconds=0.2, takeover_seconds=2.0, transaction_timeout_seconds=1.5)


def quick(flush_seconds: float = 0.05, recovery: RecoverySettings = FAST) -> CountingSettings:
    """Settings with which what has to be waited for comes soon."""
    return CountingSettings(flush=FlushSettings(interval_seconds=flush_seconds), recovery=recovery)


@asynccontextmanager
async def open_shard(
    dsn: str, settings: CountingSettings | None = None, name: str = "shard", *, is_killed: bool = False
) -> AsyncIterator[Shard]:
    """A shard that takes entries. It stops in good order at the end, or with `is_killed` just ends."""
    postgres, settings = PostgresSettings(pool_size=4), settings or quick()
    async with (
        open_upkeep_pool(dsn, postgres, settings.recovery, name) as pool,
        open_background() as background,
    ):
        clock = ServerClock()
        await clock.read(pool)
        shard = Shard(name, dsn, pool, clock, postgres, settings, OFF)
        logs = background.start("logs", shard.run_logs())
        background.start("recovery", shard.run_recovery())

        async def is_ready() -> bool:
            return shard.is_ready or not background.is_alive

        await eventually(is_ready)
        yield shard
        if not is_killed:
            shard.stop()
            await logs


async def send(shard: Shard, counts: Counts, request_id: Any = None) -> set[Outcome]:
    """Append one request; the different outcomes of its entries."""
    return set(await shard.append([as_entry(entry) for entry in cut_request(counts, request_id)]))


async def wait_for(task: "asyncio.Future[Any]", seconds: float = 20.0) -> Any:
    """The result of what should not take long."""
    async with asyncio.timeout(seconds):
        return await task
