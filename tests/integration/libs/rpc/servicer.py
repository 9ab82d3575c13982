"""Services whose methods do what the test says."""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

from libs.rpc.server import Servable, ServerSettings
from tally.counting.v1 import counting_pb2, counting_pb2_grpc
from tally.ingest.v1 import ingest_pb2, ingest_pb2_grpc

COUNTING = "tally.counting.v1.CountingService"
INGEST = "tally.ingest.v1.IngestService"
APPEND = f"/{COUNTING}/Append"

# the generated stubs have no types
CountingStub: Any = counting_pb2_grpc.CountingServiceStub
IngestStub: Any = ingest_pb2_grpc.IngestServiceStub

ANY_PORT = ServerSettings(address="127.0.0.1:0", grace_seconds=5)

# An AppendRequest whose entry's traceparent is no UTF-8, and one that is cut off.
NOT_UTF8 = b"\x12\x03\x32\x01\xff"
CUT_OFF = b"\x12\x7f\x32"


async def answer_at_once() -> None:
    """Nothing to do before the answer."""


class Counting(counting_pb2_grpc.CountingServiceServicer):
    """Append awaits `behave`, and answers."""

    def __init__(self, behave: Callable[[], Awaitable[object]] = answer_at_once) -> None:
        self.behave = behave
        self.calls = 0

    async def Append(self, request: Any, context: Any) -> counting_pb2.AppendResponse:  # noqa: ARG002, N802 - the proto's
        self.calls += 1
        await self.behave()
        return counting_pb2.AppendResponse()

    async def GetCluster(self, request: Any, context: Any) -> counting_pb2.GetClusterResponse:  # noqa: ARG002, N802 - the proto's
        return counting_pb2.GetClusterResponse()


class Ingest(ingest_pb2_grpc.IngestServiceServicer):
    """StreamEvents answers each batch with a receipt of its id, after `behave`; the others are left out."""

    def __init__(self, behave: Callable[[], Awaitable[object]] = answer_at_once) -> None:
        self.behave = behave

    async def StreamEvents(  # noqa: N802 - the proto's
        self,
        request_iterator: AsyncIterator[ingest_pb2.StreamEventsRequest],
        context: Any,  # noqa: ARG002 - the proto's
    ) -> AsyncIterator[ingest_pb2.StreamEventsResponse]:
        async for request in request_iterator:
            await self.behave()
            yield ingest_pb2.StreamEventsResponse(
                receipt=ingest_pb2.Receipt(request_id=request.batch.request_id)
            )


def counting(servicer: Counting) -> Servable:
    return Servable(COUNTING, partial(counting_pb2_grpc.add_CountingServiceServicer_to_server, servicer))


def ingest(servicer: Ingest) -> Servable:
    return Servable(INGEST, partial(ingest_pb2_grpc.add_IngestServiceServicer_to_server, servicer))
