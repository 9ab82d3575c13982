"""FindService: protobuf ↔ finds."""

from libs.rpc.types import ServicerContext
from services.catalog.find_wire import read_find, write_find
from services.catalog.finder import Finder
from tally.catalog.v1 import find_pb2 as pb
from tally.catalog.v1.find_pb2_grpc import FindServiceServicer


class FindServicer(FindServiceServicer):
    """Serves finds."""

    def __init__(self, finder: Finder, *, may_look_past: bool) -> None:
        self._finder = finder
        self._may_look_past = may_look_past

    async def Find(self, request: pb.FindRequest, context: ServicerContext) -> pb.FindResponse:
        query, page = read_find(request, may_look_past=self._may_look_past)
        answer = await self._finder.find(
            query,
            page,
            with_details=request.details != pb.DETAILS_FORM_NONE,
            min_change=request.min_change,
        )
        return write_find(answer, query, request.details)
