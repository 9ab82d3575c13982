"""ToyService: protobuf ↔ toys."""

from typing import Any

from libs.rpc.calls import UnaryCall
from libs.rpc.deadline import call_timeout
from libs.rpc.types import ServicerContext
from services.toy.settings import ToySettings
from tally.contract.errors import InvalidRequest, NotFound, Violation
from tally.query.v1.query_pb2 import GetViewsCountRequest, GetViewsCountResponse
from tally.toy.v1 import toy_pb2 as pb
from tally.toy.v1.toy_pb2_grpc import ToyServiceServicer

_PUT = """
insert into toy.toy (name, colour) values ($1, $2)
on conflict (name) do update set colour = excluded.colour"""
_GET = "select colour from toy.toy where name = $1"

_ANSWER_SECONDS = 0.1


class ToyServicer(ToyServiceServicer):
    """Serves toys."""

    def __init__(
        self,
        pool: Any,
        count_views: UnaryCall[GetViewsCountRequest, GetViewsCountResponse],
        settings: ToySettings,
    ) -> None:
        self._pool = pool
        self._count_views = count_views
        self._settings = settings

    async def PutToy(self, request: pb.PutToyRequest, context: ServicerContext) -> pb.PutToyResponse:
        if request.colour not in self._settings.colours:
            allowed = ", ".join(self._settings.colours)
            raise InvalidRequest([Violation("colour", f"must be one of {allowed}")])
        await self._pool.execute(_PUT, request.name, request.colour)
        return pb.PutToyResponse()

    async def GetToy(self, request: pb.GetToyRequest, context: ServicerContext) -> pb.GetToyResponse:
        colour = await self._pool.fetchval(_GET, request.name)
        if colour is None:
            raise NotFound(f"there is no toy {request.name!r}")
        views = await self._count_views(
            GetViewsCountRequest(video_id=request.name),
            timeout_s=call_timeout(self._settings.timeout_seconds, _ANSWER_SECONDS),
        )
        return pb.GetToyResponse(colour=colour, view_count=views.count)
