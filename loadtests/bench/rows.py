"""Tally, with a message for each event instead of columns: what any gRPC stub can send."""

import grpc

from loadtests.bench.events import EVENT_TYPES, Request
from loadtests.bench.tally import Reached, Tally, call_patiently
from tally.client.request_id import RequestIds
from tally.ingest.v1 import ingest_pb2

_PROCESS_EVENTS = "/tally.ingest.v1.IngestService/ProcessEvents"


class TallyRows(Tally):
    """ProcessEvents with `events`, by a stub."""

    def __init__(self, reached: Reached) -> None:
        super().__init__(reached)
        self._call: grpc.aio.UnaryUnaryMultiCallable[
            ingest_pb2.ProcessEventsRequest, ingest_pb2.ProcessEventsResponse
        ] = reached.channel.unary_unary(
            _PROCESS_EVENTS,
            request_serializer=ingest_pb2.ProcessEventsRequest.SerializeToString,
            response_deserializer=ingest_pb2.ProcessEventsResponse.FromString,
        )
        self._request_ids = RequestIds()

    async def send(self, request: Request) -> None:
        names = zip(request.video_ids[request.video].tolist(), request.event_type.tolist(), strict=True)
        message = ingest_pb2.ProcessEventsRequest(
            request_id=self._request_ids.make(),
            events=[
                ingest_pb2.Event(video_id=video_id, event_type=EVENT_TYPES[number])
                for video_id, number in names
            ],
        )
        await call_patiently(self._call, message)
