"""What a client calls, in one peer: it answers with receipts, unless a test says otherwise."""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2  # type: ignore[import-untyped]  # it ships no types

from tally.common.v1 import common_pb2
from tally.counting.v1 import counting_pb2
from tally.ingest.v1 import ingest_pb2
from tests.support import peer as generic
from tests.support.peer import Context, Received

INGEST = "tally.ingest.v1.IngestService"
COUNTING = "tally.counting.v1.CountingService"
QUERY = "tally.query.v1.QueryService"
HEALTH = "grpc.health.v1.Health"


@dataclass(eq=False)
class Peer(generic.Peer):
    """`refusals`: what the next batches on streams are answered with."""

    refusals: deque[ingest_pb2.Refusal] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.answers |= {
            "CountEvent": accept_count,
            "ProcessEvent": accept_event,
            "ProcessEvents": accept_request,
            "Append": journal,
            "StreamEvents": self._answer_batch,
        }

    async def _answer_batch(self, payload: bytes, _context: Context) -> Message:
        """Refuses batches whose first video is `refused`, too."""
        batch = ingest_pb2.StreamEventsRequest.FromString(payload).batch
        if self.refusals:
            refusal = self.refusals.popleft()
            refusal.request_id = batch.request_id
            return ingest_pb2.StreamEventsResponse(refusal=refusal)
        if batch.columns.video_ids[0] == "refused":
            refusal = ingest_pb2.Refusal(
                request_id=batch.request_id, code=8, reason="OVERLOADED", message="too much"
            )
            return ingest_pb2.StreamEventsResponse(refusal=refusal)
        return ingest_pb2.StreamEventsResponse(receipt=accept_batch(batch))


async def accept_count(payload: bytes, _context: Context) -> Message:
    request = ingest_pb2.CountEventRequest.FromString(payload)
    return ingest_pb2.CountEventResponse(receipt=accept(request.request_id))


async def accept_event(payload: bytes, _context: Context) -> Message:
    request = ingest_pb2.ProcessEventRequest.FromString(payload)
    return ingest_pb2.ProcessEventResponse(receipt=accept(request.request_id))


async def accept_request(payload: bytes, _context: Context) -> Message:
    batch = ingest_pb2.ProcessEventsRequest.FromString(payload)
    return ingest_pb2.ProcessEventsResponse(receipt=accept_batch(batch))


async def journal(payload: bytes, _context: Context) -> Message:
    request = counting_pb2.AppendRequest.FromString(payload)
    return counting_pb2.AppendResponse(outcomes=[counting_pb2.OUTCOME_JOURNALED] * len(request.entries))


def batch_of(received: Received) -> ingest_pb2.ProcessEventsRequest:
    """The batch of a request, be it a call of its own or a message on a stream."""
    if received.rpc == "StreamEvents":
        return ingest_pb2.StreamEventsRequest.FromString(received.payload).batch
    assert received.rpc == "ProcessEvents"
    return ingest_pb2.ProcessEventsRequest.FromString(received.payload)


def videos_of(received: Received) -> list[str]:
    """The video of each event of a batch, in order."""
    columns = batch_of(received).columns
    index = columns.video_index
    return [columns.video_ids[int.from_bytes(index[at : at + 2], "little")] for at in range(0, len(index), 2)]


def accept(request_id: str, count: int = 1) -> ingest_pb2.Receipt:
    return ingest_pb2.Receipt(
        request_id=request_id, accepted_count=count, durability=common_pb2.DURABILITY_JOURNALED
    )


def accept_batch(batch: ingest_pb2.ProcessEventsRequest) -> ingest_pb2.Receipt:
    return accept(batch.request_id, len(batch.columns.video_index) // 2)


def error_info(reason: str, **metadata: str) -> Message:
    info: Message = error_details_pb2.ErrorInfo(reason=reason, domain="tally", metadata=metadata)
    return info


def retry_after(delay_s: float) -> Message:
    delay = Duration()
    delay.FromNanoseconds(int(delay_s * 1e9))
    info: Message = error_details_pb2.RetryInfo(retry_delay=delay)
    return info


def bad_request(**violations: str) -> Message:
    details: Message = error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(field=name, description=text)
            for name, text in violations.items()
        ]
    )
    return details


@asynccontextmanager
async def open_peer() -> AsyncIterator[Peer]:
    """A peer on a free port of the loopback."""
    async with generic.serve_peer(Peer((INGEST, COUNTING, QUERY, HEALTH))) as peer:
        yield peer
