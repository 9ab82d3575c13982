"""CountingService: protobuf ↔ entries."""

from typing import cast

from libs.domain.errors import PartitionCountMismatch
from libs.rpc.types import ServicerContext
from services.counting.shard import Shard
from services.counting.wire import read_entry
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
        entries = [
            read_entry(entry, f"entries[{place}]", self._partition_count)
            for place, entry in enumerate(request.entries)
        ]
        outcomes = await self._shard.append(entries)
        return pb.AppendResponse(outcomes=cast("list[pb.Outcome]", outcomes))  # the same numbers
