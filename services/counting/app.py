"""Wiring of the counting service."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import structlog

from libs.rpc.cluster_identity import ClusterCheck, identity_of
from libs.rpc.server import Servable
from libs.runtime.context import Context
from libs.runtime.entries import ENQUEUE
from libs.runtime.presence import Presence
from libs.runtime.service import Opened
from libs.stores.pool import open_pool
from libs.stores.postgres import PostgresSettings, reaching_postgres, time_limits
from services.counting.dead_letters.decisions import Decisions
from services.counting.dead_letters.servicer import DeadLetterServicer
from services.counting.dead_letters.watch import DeadLetterWatch
from services.counting.generations.upkeep import generations_loop
from services.counting.journal.log import check_durability
from services.counting.journal.wire import Wire
from services.counting.merging.merger import Merger
from services.counting.recovery.floor_keeper import FloorKeeper
from services.counting.recovery.partitions import keep_partitions, upkeep_loop
from services.counting.servicer import CountingServicer
from services.counting.settings import CountingSettings, RecoverySettings
from services.counting.shard import Shard
from services.counting.spool.drain import Drain
from services.counting.spool.spool import open_spool
from tally.contract.errors import NotReady, Unavailable
from tally.counting.v1.counting_pb2_grpc import add_CountingServiceServicer_to_server
from tally.counting.v1.dead_letters_pb2_grpc import add_DeadLetterServiceServicer_to_server

_LOGGER = structlog.get_logger(__name__)

_DRAIN_SECONDS, _CANCEL_SECONDS = 15.0, 5.0
NAME = "tally.counting.v1.CountingService"
_DEAD_LETTERS_NAME = "tally.counting.v1.DeadLetterService"


@asynccontextmanager
async def open_counting(context: Context, settings: CountingSettings) -> AsyncIterator[Opened]:
    """Open one shard; its spool is in the context's folder unless the settings name another one."""
    postgres = context.postgres
    name = settings.shard or f"{socket.gethostname()}/{os.getpid()}"
    async with AsyncExitStack() as stack:
        spool = None
        if settings.spool.enabled:
            spool = await stack.enter_async_context(
                open_spool(settings.spool, context.data_dir, settings.shard, context.cluster.cluster_id)
            )
            context.background.start("spool", Presence([spool.path]).watch())
        pool = await stack.enter_async_context(
            open_upkeep_pool(context.dsn, postgres, settings.recovery, name)
        )
        await _prepare_journal(pool, settings)
        shard = Shard(
            name,
            context.dsn,
            pool,
            context.clock,
            postgres,
            settings,
            context.telemetry,
            spool,
            context.cluster,
        )
        loops = [
            shard.failover.loop,
            upkeep_loop(pool, settings.journal.partitions_ahead_hours, context.telemetry),
            FloorKeeper(pool, context.telemetry).loop,
            Merger(
                pool,
                settings.flush,
                settings.recovery,
                shard.metrics,
                context.telemetry,
                shard.waiting_runs,
            ).loop,
            generations_loop(pool, settings, context.telemetry),
        ]
        spool_drain = None
        if spool is not None:
            seconds = settings.recovery.transaction_timeout_seconds
            spool_drain = Drain(spool, shard, pool, seconds, context.telemetry)
            loops.append(spool_drain.loop)
        logs = context.background.start("logs", shard.run_logs())
        running = {logs, *(context.background.start(loop.name, loop.run()) for loop in loops)}
        wire = Wire(context.cluster.partition_count, context.clock)
        cluster = ClusterCheck(identity_of(context.cluster))
        servicer = CountingServicer(shard, wire, cluster)

        async def drain() -> None:
            if spool_drain is not None:
                await spool_drain.finish(settings.spool.drain_seconds)
            shard.stop()
            # What does not end by then is in the journal, and will be recovered.
            await asyncio.wait({logs}, timeout=_DRAIN_SECONDS)

        try:
            yield Opened(
                [
                    Servable(NAME, lambda server: add_CountingServiceServicer_to_server(servicer, server)),
                    _open_dead_letters(context, settings, postgres, cluster),
                ],
                is_ready=lambda: shard.is_ready,
                drain=drain,
                handles={ENQUEUE: shard.enqueue},
            )
        finally:  # before what they use is closed; on a silent server even a cancellation has to wait
            for task in running:
                task.cancel()
            await asyncio.wait(running, timeout=_CANCEL_SECONDS)


async def _prepare_journal(pool: Any, settings: CountingSettings) -> None:
    """Make the journal ready for the first log, if Postgres is there; else opening the log and upkeep see to it.

    Raises NotReady, and a PostgresError when Postgres refuses.
    """
    try:
        with reaching_postgres():
            await check_durability(pool)
            await keep_partitions(pool, settings.journal.partitions_ahead_hours)
    except NotReady:
        raise
    except Unavailable as error:
        _LOGGER.warning(
            "Postgres is unreachable; entries go to the spool until it is back", error=str(error.__cause__)
        )


def _open_dead_letters(
    context: Context, settings: CountingSettings, postgres: PostgresSettings, cluster: ClusterCheck
) -> Servable:
    """The service, and its watch while the process runs."""
    watch = DeadLetterWatch(context.pool, context.telemetry)
    context.background.start(watch.loop.name, watch.loop.run())
    decisions = Decisions(context.dsn, postgres, settings.recovery, settings.flush)
    servicer = DeadLetterServicer(context.pool, decisions, cluster)
    return Servable(
        _DEAD_LETTERS_NAME, lambda server: add_DeadLetterServiceServicer_to_server(servicer, server)
    )


def open_upkeep_pool(
    dsn: str, postgres: PostgresSettings, recovery: RecoverySettings, shard: str
) -> AbstractAsyncContextManager[Any]:
    """Connections for a shard's heartbeats, recovery and upkeep.

    They are its own: a beat must not wait for slow reads of others. And they are bounded on both sides: a
    silent server must not hold up the shard, nor a frozen shard the others.
    """
    return open_pool(
        dsn,
        postgres,
        f"tally counting upkeep {shard}",
        statement_seconds=recovery.statement_timeout_seconds,
        server_settings=time_limits(recovery.transaction_timeout_seconds),
        is_needed_at_start=False,
    )
