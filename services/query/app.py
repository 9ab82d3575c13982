"""Wiring of the query service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from libs.rpc.breaker import Breaker, reporter
from libs.rpc.server import Servable
from libs.runtime.context import Context
from libs.runtime.service import Opened
from services.query.hot import AWAY, Hot, open_client
from services.query.reader import Reader
from services.query.servicer import QueryServicer
from services.query.settings import QuerySettings
from tally.query.v1.query_pb2_grpc import add_QueryServiceServicer_to_server

NAME = "tally.query.v1.QueryService"


@asynccontextmanager
async def open_query(context: Context, settings: QuerySettings) -> AsyncIterator[Opened]:
    """Open a query service."""
    breaker = Breaker(
        "Valkey",
        failures=settings.hot.breaker_failures,
        reset_after_s=settings.hot.breaker_reset_seconds,
        is_failure=lambda error: isinstance(error, AWAY),
        clock=context.clock,
        on_change=reporter(context.telemetry),
    )
    async with open_client(context.valkey_url, settings.hot) as client:
        hot = Hot(client, breaker, context.cluster, settings.hot, context.clock)
        servicer = QueryServicer(Reader(context.pool, hot, context.cluster.partition_count), context.pool)
        yield Opened(
            [Servable(NAME, lambda server: add_QueryServiceServicer_to_server(servicer, server))],
            is_ready=lambda: True,
        )
