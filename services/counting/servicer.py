"""CountingService: protobuf ↔ entries."""

import uuid
from typing import cast

from libs.domain.errors import InvalidRequest, PartitionCountMismatch, Violation
from libs.rpc.columns import parse
from libs.rpc.types import ServicerContext
from services.counting.entry import Entry
from services.counting.shard import Shard
from tally.counting.v1 import counting_pb2 as pb
from tally.counting.v1.counting_pb2_grpc import CountingServiceServicer


class CountingServicer(CountingServiceServicer):
    """Serves one shard."""

    def __init__(self, shard: Shard, partition_count: int) -> None:
        self._shard = shard
        self._partition_count = partition_count

    async def Append(self, request: pb.AppendRequest, context: ServicerContext) -> pb.AppendResponse:
        if request.partition_count != self._partition_count:
            raise PartitionCountMismatch(
                f"the entries are cut for {request.partition_count} partitions; this cluster has "
                f"{self._partition_count}"
            )
        entries = [self._read(entry, f"entries[{place}]") for place, entry in enumerate(request.entries)]
        outcomes = await self._shard.append(entries)
        return pb.AppendResponse(outcomes=cast("list[pb.Outcome]", outcomes))  # the same numbers

    def _read(self, entry: pb.Entry, path: str) -> Entry:
        if len(entry.request_id) != 16:
            raise InvalidRequest([Violation(f"{path}.request_id", "must be the 16 bytes of a UUID")])
        if entry.partition >= self._partition_count:
            raise InvalidRequest([Violation(f"{path}.partition", f"must be below {self._partition_count}")])
        events = parse(entry.payload, f"{path}.payload")
        if len(events) != entry.event_count or not entry.event_count:
            raise InvalidRequest(
                [Violation(f"{path}.event_count", f"must be that of the payload, {len(events)}")]
            )
        return Entry(
            request_id=uuid.UUID(bytes=entry.request_id),
            partition=entry.partition,
            request_hash=_signed(entry.request_hash),
            payload=entry.payload,
            events=events,
            traceparent=entry.traceparent,
        )


def _signed(number: int) -> int:
    """64 bits as Postgres's bigint holds them."""
    return number - (1 << 64) if number >= 1 << 63 else number
