"""One event a call, by bare gRPC: an echo server is called in the same way."""

import grpc

from loadtests.bench.events import EVENT_TYPES, Request
from loadtests.bench.tally import Reached, Tally, call_patiently
from tally.client.request_id import RequestIds
from tally.ingest.v1 import ingest_pb2

COUNT_EVENT = "/tally.ingest.v1.IngestService/CountEvent"


def make_count_event(request: Request, request_ids: RequestIds) -> ingest_pb2.CountEventRequest:
    """The first event of a request, which has no other."""
    return ingest_pb2.CountEventRequest(
        video_id=request.video_ids[request.video[0]],
        event_type=EVENT_TYPES[request.event_type[0]],
        request_id=request_ids.make(),
    )


class TallySingle(Tally):
    """CountEvent, by a stub: nothing but the call itself lies between the caller and the service."""

    def __init__(self, reached: Reached) -> None:
        super().__init__(reached)
        self._call: grpc.aio.UnaryUnaryMultiCallable[
            ingest_pb2.CountEventRequest, ingest_pb2.CountEventResponse
        ] = reached.channel.unary_unary(
            COUNT_EVENT,
            request_serializer=ingest_pb2.CountEventRequest.SerializeToString,
            response_deserializer=ingest_pb2.CountEventResponse.FromString,
        )
        self._request_ids = RequestIds()

    async def send(self, request: Request) -> None:
        await call_patiently(self._call, make_count_event(request, self._request_ids))
