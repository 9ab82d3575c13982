"""Wiring of the counting service."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from libs.rpc.server import Servable
from libs.runtime.context import Context
from libs.runtime.service import Opened
from libs.stores.postgres import PostgresSettings, open_pool, time_limits
from services.counting.dead_letter_servicer import DeadLetterServicer
from services.counting.dead_letter_watch import DeadLetterWatch
from services.counting.decisions import Decisions
from services.counting.drain import Drain
from services.counting.log import check_durability
from services.counting.partitions import keep_partitions
from services.counting.servicer import CountingServicer
from services.counting.settings import CountingSettings, RecoverySettings
from services.counting.shard import Shard
from services.counting.spool import open_spool
from services.counting.wire import Wire
from tally.counting.v1.counting_pb2_grpc import add_CountingServiceServicer_to_server
from tally.counting.v1.dead_letters_pb2_grpc import add_DeadLetterServiceServicer_to_server

_DRAIN_SECONDS, _CANCEL_SECONDS = 15.0, 5.0
NAME = "tally.counting.v1.CountingService"
_DEAD_LETTERS_NAME = "tally.counting.v1.DeadLetterService"


@asynccontextmanager
async def open_counting(
    context: Context, settings: CountingSettings, postgres: PostgresSettings, data_dir: Path
) -> AsyncIterator[Opened]:
    """Open one shard; its spool is in `data_dir` unless the settings say another place."""
    name = settings.shard or f"{socket.gethostname()}/{os.getpid()}"
    async with AsyncExitStack() as stack:
        spool = None
        if settings.spool.enabled:
            spool = await stack.enter_async_context(
                open_spool(settings.spool, data_dir, settings.shard, context.cluster.cluster_id)
            )
        pool = await stack.enter_async_context(
            open_upkeep_pool(context.dsn, postgres, settings.recovery, name)
        )
        await check_durability(pool)
        await keep_partitions(pool, settings.journal.partitions_ahead_hours)
        shard = Shard(name, context.dsn, pool, context.clock, postgres, settings, context.telemetry, spool)
        start = context.background.start
        logs = start("logs", shard.run_logs())
        loops = {start("recovery", shard.run_recovery()), start("upkeep", shard.run_upkeep()), logs}
        emptying = (
            None
            if spool is None
            else Drain(spool, shard, pool, settings.recovery.transaction_timeout_seconds)
        )
        if emptying is not None:
            loops.add(start("drain", emptying.run()))
        wire = Wire(context.cluster.partition_count, context.clock)
        servicer = CountingServicer(shard, wire)

        async def drain() -> None:
            if emptying is not None:
                await emptying.finish(settings.spool.drain_seconds)
            shard.stop()
            # What does not end by then is in the journal, and will be recovered.
            await asyncio.wait({logs}, timeout=_DRAIN_SECONDS)

        try:
            yield Opened(
                [
                    Servable(NAME, lambda server: add_CountingServiceServicer_to_server(servicer, server)),
                    _open_dead_letters(context, settings, postgres),
                ],
                is_ready=lambda: shard.is_ready,
                drain=drain,
                offer=shard.offer,
            )
        finally:  # before what they use is closed; on a silent server even a cancellation has to wait
            for loop in loops:
                loop.cancel()
            await asyncio.wait(loops, timeout=_CANCEL_SECONDS)


def _open_dead_letters(context: Context, settings: CountingSettings, postgres: PostgresSettings) -> Servable:
    """The service, and the watch beside it for as long as the process lives."""
    watch = DeadLetterWatch(context.pool, context.telemetry)
    context.background.start("dead letters", watch.run())
    decisions = Decisions(context.dsn, postgres, settings.recovery, settings.flush)
    servicer = DeadLetterServicer(context.pool, decisions)
    return Servable(
        _DEAD_LETTERS_NAME, lambda server: add_DeadLetterServiceServicer_to_server(servicer, server)
    )


def open_upkeep_pool(
    dsn: str, postgres: PostgresSettings, recovery: RecoverySettings, shard: str
) -> AbstractAsyncContextManager[Any]:
    """Connections for a shard's heartbeats, recovery and upkeep.

    They are its own: a beat must not wait behind somebody's slow reads. And they are bounded on both sides: a
    silent server must not hold up the shard, nor a frozen shard the others.
    """
    return open_pool(
        dsn,
        postgres,
        f"tally counting upkeep {shard}",
        statement_seconds=recovery.statement_timeout_seconds,
        server_settings=time_limits(recovery.transaction_timeout_seconds),
    )
