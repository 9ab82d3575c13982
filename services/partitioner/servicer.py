"""IngestService: protobuf ↔ requests."""

import uuid
from collections.abc import AsyncIterator

import xxhash
from google.protobuf.message import Message

from libs.domain.errors import InvalidRequest, Violation
from libs.domain.events import VIEW
from libs.domain.rules import MAX_REQUEST_BYTES
from libs.rpc.types import ServicerContext
from services.partitioner.admission import Admission
from services.partitioner.door import Door
from services.partitioner.ingest import Counted, Ingest
from services.partitioner.router import Router
from services.partitioner.stream import answer_stream
from tally.common.v1.common_pb2 import DURABILITY_JOURNALED, DURABILITY_SPOOLED, ClusterIdentity
from tally.ingest.v1 import ingest_pb2 as pb
from tally.ingest.v1.ingest_pb2_grpc import IngestServiceServicer


class IngestServicer(IngestServiceServicer):
    """Serves one partitioner."""

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
        return pb.CountViewEventResponse(receipt=await self._process_one(request, event, ""))

    async def CountEvent(
        self, request: pb.CountEventRequest, context: ServicerContext
    ) -> pb.CountEventResponse:
        event = pb.Event(video_id=request.video_id, event_type=request.event_type, actor_id=request.actor_id)
        if request.HasField("event_time"):
            event.event_time.CopyFrom(request.event_time)
        return pb.CountEventResponse(receipt=await self._process_one(request, event, ""))

    async def ProcessEvent(
        self, request: pb.ProcessEventRequest, context: ServicerContext
    ) -> pb.ProcessEventResponse:
        return pb.ProcessEventResponse(receipt=await self._process_one(request, request.event, "event."))

    async def ProcessEvents(
        self, request: pb.ProcessEventsRequest, context: ServicerContext
    ) -> pb.ProcessEventsResponse:
        return pb.ProcessEventsResponse(receipt=await self._process_batch(request))

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
                for address in placement.ways
            ],
            cluster=self._cluster,
        )

    async def _process_one(
        self,
        request: pb.CountViewEventRequest | pb.CountEventRequest | pb.ProcessEventRequest,
        event: pb.Event,
        path: str,
    ) -> pb.Receipt:
        data = _write(request)
        with self._admission.admit(len(data)):
            request_id, events = self._door.admit_event(request.request_id, event, path)
            counted = await self._ingest.append(request_id, _hash(data), events)
        return _receipt(request_id, counted)

    async def _process_batch(self, request: pb.ProcessEventsRequest) -> pb.Receipt:
        data = _write(request)
        with self._admission.admit(len(data)):
            request_id, events = self._door.admit_batch(request)
            counted = await self._ingest.append(request_id, _hash(data), events)
        return _receipt(request_id, counted)


def _write(request: Message) -> bytes:
    """The bytes of a request, the same whenever it is the same. Raises InvalidRequest when there are too many."""
    data = request.SerializeToString(deterministic=True)
    if len(data) > MAX_REQUEST_BYTES:
        raise InvalidRequest(
            [
                Violation(
                    "request", f"must be at most {MAX_REQUEST_BYTES:,} bytes, and has {len(data):,}; cut it"
                )
            ]
        )
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
