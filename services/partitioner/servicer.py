"""IngestService: protobuf ↔ requests."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

import xxhash
from google.protobuf.message import Message

from libs.domain.events import Events
from libs.rpc.admission import Admission
from libs.rpc.look import too_large
from libs.rpc.types import ServicerContext
from services.partitioner.intake.door import Door
from services.partitioner.intake.ingest import Counted, Ingest
from services.partitioner.intake.stream import answer_stream
from services.partitioner.routing.router import Router
from tally.common.v1.common_pb2 import DURABILITY_JOURNALED, DURABILITY_SPOOLED, ClusterIdentity
from tally.contract.rules import MAX_REQUEST_BYTES, VIEW
from tally.ingest.v1 import ingest_pb2 as pb
from tally.ingest.v1.ingest_pb2_grpc import IngestServiceServicer


@dataclass(frozen=True, slots=True)
class _Accepted:
    """What is kept of a request while it is made durable: not its message, which takes several times its bytes."""

    request_id: uuid.UUID
    events: Events
    request_hash: int


class IngestServicer(IngestServiceServicer):
    """Serves one partitioner.

    The layer around it has admitted a single request before it was parsed; batches of a stream are admitted here. No
    method holds its request while it waits.
    """

    def __init__(
        self,
        admission: Admission,
        door: Door,
        ingest: Ingest,
        router: Router,
        batches_at_once: int,
        cluster: ClusterIdentity,
    ) -> None:
        self._admission = admission
        self._door = door
        self._ingest = ingest
        self._router = router
        self._batches_at_once = batches_at_once
        self._cluster = cluster

    async def CountViewEvent(
        self, request: pb.CountViewEventRequest, context: ServicerContext
    ) -> pb.CountViewEventResponse:
        event = pb.Event(video_id=request.video_id, event_type=VIEW, actor_id=request.actor_id)
        if request.HasField("event_time"):
            event.event_time.CopyFrom(request.event_time)
        return pb.CountViewEventResponse(receipt=await self._count(self._read_one(request, event, "")))

    async def CountEvent(
        self, request: pb.CountEventRequest, context: ServicerContext
    ) -> pb.CountEventResponse:
        event = pb.Event(video_id=request.video_id, event_type=request.event_type, actor_id=request.actor_id)
        if request.HasField("event_time"):
            event.event_time.CopyFrom(request.event_time)
        return pb.CountEventResponse(receipt=await self._count(self._read_one(request, event, "")))

    async def ProcessEvent(
        self, request: pb.ProcessEventRequest, context: ServicerContext
    ) -> pb.ProcessEventResponse:
        accepted = self._read_one(request, request.event, "event.")
        return pb.ProcessEventResponse(receipt=await self._count(accepted))

    async def ProcessEvents(
        self, request: pb.ProcessEventsRequest, context: ServicerContext
    ) -> pb.ProcessEventsResponse:
        accepted = self._read_batch(request)
        del request
        return pb.ProcessEventsResponse(receipt=await self._count(accepted))

    async def StreamEvents(  # type: ignore[override]  # the types know generators alone; this one writes
        self, request_iterator: AsyncIterator[pb.StreamEventsRequest], context: ServicerContext
    ) -> None:
        await answer_stream(request_iterator, context.write, self._process_batch, self._batches_at_once)

    async def GetPartitionMap(
        self, request: pb.GetPartitionMapRequest, context: ServicerContext
    ) -> pb.GetPartitionMapResponse:
        placement = self._router.placement
        return pb.GetPartitionMapResponse(
            partition_count=self._router.partition_count,
            version=placement.version,
            shards=[
                pb.ShardPartitions(address=address, partitions=placement.led_by(address))
                for address in placement.transports
            ],
            cluster=self._cluster,
        )

    def _read_one(
        self,
        request: pb.CountViewEventRequest | pb.CountEventRequest | pb.ProcessEventRequest,
        event: pb.Event,
        path: str,
    ) -> _Accepted:
        data = _write(request)
        return _Accepted(*self._door.read_event(request.request_id, event, path), _hash(data))

    def _read_batch(self, request: pb.ProcessEventsRequest) -> _Accepted:
        data = _write(request)
        return _Accepted(*self._door.read_batch(request), _hash(data))

    async def _process_batch(self, request: pb.ProcessEventsRequest) -> pb.Receipt:
        with self._admission.admit(request.ByteSize()):
            accepted = self._read_batch(request)
            del request
            return await self._count(accepted)

    async def _count(self, accepted: _Accepted) -> pb.Receipt:
        counted = await self._ingest.append(accepted.request_id, accepted.request_hash, accepted.events)
        return _receipt(accepted.request_id, counted)


def _write(request: Message) -> bytes:
    """The bytes of a request; equal requests have equal bytes. Raises InvalidRequest when there are too many."""
    data = request.SerializeToString(deterministic=True)
    if len(data) > MAX_REQUEST_BYTES:
        raise too_large(len(data))
    return data


def _hash(data: bytes) -> int:
    """XXH3 (64 bits) of a request. A retry repeats its bytes, and so its hash."""
    return xxhash.xxh3_64_intdigest(data)


def _receipt(request_id: uuid.UUID, counted: Counted) -> pb.Receipt:
    return pb.Receipt(
        request_id=str(request_id),
        accepted_count=counted.accepted,
        duplicate_count=counted.duplicate,
        durability=DURABILITY_SPOOLED if counted.spooled else DURABILITY_JOURNALED,
    )
