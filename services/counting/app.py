"""Wiring of the counting service."""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from libs.rpc.server import Servable
from libs.runtime.context import Context
from libs.runtime.service import Opened
from libs.stores.postgres import PostgresSettings, open_pool
from services.counting.partitions import keep_partitions
from services.counting.servicer import CountingServicer
from services.counting.settings import CountingSettings
from services.counting.shard import Shard
from tally.counting.v1.counting_pb2_grpc import add_CountingServiceServicer_to_server

NAME = "tally.counting.v1.CountingService"


@asynccontextmanager
async def open_counting(
    context: Context, settings: CountingSettings, postgres: PostgresSettings
) -> AsyncIterator[Opened]:
    """Open one shard."""
    name = settings.shard or f"{socket.gethostname()}/{os.getpid()}"
    # Of its own: a beat must not wait behind somebody's slow reads.
    async with open_pool(context.dsn, postgres, f"tally counting upkeep {name}") as pool:
        await keep_partitions(pool, settings.journal.partitions_ahead_hours)
        shard = Shard(name, context.dsn, pool, context.clock, postgres, settings, context.telemetry)
        logs = context.background.start("logs", shard.run_logs())
        recovery = context.background.start("recovery", shard.run_recovery())
        upkeep = context.background.start("upkeep", shard.run_upkeep())
        servicer = CountingServicer(shard, context.cluster.partition_count)

        async def drain() -> None:
            shard.stop()
            await logs

        yield Opened(
            [Servable(NAME, lambda server: add_CountingServiceServicer_to_server(servicer, server))],
            is_ready=lambda: shard.is_ready,
            drain=drain,
        )
        recovery.cancel()
        upkeep.cancel()
