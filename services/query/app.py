"""Wiring of the query service."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from libs.rpc.breaker import reporter
from libs.rpc.server import Servable
from libs.runtime.context import Context
from libs.runtime.service import Opened
from libs.stores.pool import open_pool
from services.query.hot import AWAY, Hot, open_client
from services.query.lane import Lane
from services.query.reader import Reader
from services.query.server import Server
from services.query.servicer import QueryServicer
from services.query.settings import QuerySettings
from tally.contract.breaker import Breaker
from tally.query.v1.query_pb2_grpc import add_QueryServiceServicer_to_server

NAME = "tally.query.v1.QueryService"


@asynccontextmanager
async def open_query(context: Context, settings: QuerySettings) -> AsyncIterator[Opened]:
    """Open a query service. Its primary need not be there at the start."""
    postgres = context.postgres
    breaker = Breaker(
        "Valkey",
        failures=settings.hot.breaker_failures,
        reset_after_s=settings.hot.breaker_reset_seconds,
        is_failure=lambda error: isinstance(error, AWAY),
        now=context.clock.monotonic,
        on_change=reporter(context.telemetry),
    )

    async def open_lane(
        kind: str, advice: str, dsn: str, connections: int, seconds: float, **bounds: int
    ) -> Lane:
        pool = await stack.enter_async_context(
            open_pool(
                dsn,
                postgres.model_copy(update={"pool_size": connections}),
                f"tally query {kind}",
                statement_seconds=seconds,
                is_needed_at_start=False,
            )
        )
        return Lane(kind, pool, advice=advice, wait_seconds=seconds, **bounds)

    async def open_server(dsn: str, pool: Any) -> Server:
        heavy = settings.heavy
        lane = await open_lane(
            "heavy reads",
            "ask again later, or for a narrower range",
            dsn,
            heavy.connections,
            heavy.timeout_seconds,
            most_waiting=heavy.max_waiting,
            most_per_caller=heavy.max_per_caller,
        )
        return Server(pool, lane, heavy, context.clock)

    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(open_client(context.valkey_url, settings.hot))
        hot = Hot(client, breaker, context.cluster, settings.hot, context.clock)
        local = primary = await open_server(context.dsn, context.pool)
        if settings.primary_dsn is not None:
            pool = await stack.enter_async_context(
                open_pool(
                    settings.primary_dsn, postgres, "tally query strong reads", is_needed_at_start=False
                )
            )
            primary = await open_server(settings.primary_dsn, pool)
        audits = await open_lane(
            "audits",
            "ask again later",
            context.dsn,
            1,
            settings.audit.timeout_seconds,
            most_waiting=settings.audit.max_waiting,
            most_per_caller=1 + settings.audit.max_waiting,
        )
        reader = Reader(local, primary, hot, context.cluster, context.telemetry)
        servicer = QueryServicer(reader, local, audits, context.clock)
        yield Opened(
            [Servable(NAME, lambda server: add_QueryServiceServicer_to_server(servicer, server))],
            is_ready=lambda: True,
        )
