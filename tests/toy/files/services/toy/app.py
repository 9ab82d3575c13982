"""Wiring of the toy service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from libs.rpc.calls import UnaryCall
from libs.rpc.channel import open_channel
from libs.rpc.server import Servable
from libs.runtime.context import Context
from libs.runtime.service import Opened
from services.toy.servicer import ToyServicer
from services.toy.settings import ToySettings
from tally.contract.errors import NotReady
from tally.query.v1.query_pb2_grpc import QueryServiceStub
from tally.toy.v1.toy_pb2_grpc import add_ToyServiceServicer_to_server

_NAME = "tally.toy.v1.ToyService"
_COUNT_VIEWS = "/tally.query.v1.QueryService/GetViewsCount"


@asynccontextmanager
async def open_toy(context: Context, settings: ToySettings) -> AsyncIterator[Opened]:
    """Open the toy service. Raises NotReady when no query service is set."""
    if not settings.query:
        raise NotReady("no query service is set. Set TALLY_TOY__QUERY='[\"host:port\", …]'")
    async with open_channel(settings.query[0], settings.channel) as channel:
        count_views = UnaryCall(
            QueryServiceStub(channel).GetViewsCount, _COUNT_VIEWS, telemetry=context.telemetry
        )
        servicer = ToyServicer(context.pool, count_views, settings)
        yield Opened(
            [Servable(_NAME, lambda server: add_ToyServiceServicer_to_server(servicer, server))],
            is_ready=lambda: True,
        )
