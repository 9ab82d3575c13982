"""CountingService: protobuf ↔ entries."""

from typing import cast

from libs.rpc.cluster_identity import ClusterCheck
from libs.rpc.types import ServicerContext
from services.counting.journal.wire import Wire
from services.counting.shard import Shard
from tally.counting.v1 import counting_pb2 as pb
from tally.counting.v1.counting_pb2_grpc import CountingServiceServicer


class CountingServicer(CountingServiceServicer):
    """Serves one shard."""

    def __init__(self, shard: Shard, wire: Wire, cluster: ClusterCheck) -> None:
        self._shard = shard
        self._wire = wire
        self._cluster = cluster

    async def Append(self, request: pb.AppendRequest, context: ServicerContext) -> pb.AppendResponse:
        self._cluster.check(request.cluster)
        outcomes = await self._shard.append(self._wire.read_entries(request))
        return pb.AppendResponse(outcomes=cast("list[pb.Outcome]", outcomes))  # the same numbers

    async def GetCluster(
        self, request: pb.GetClusterRequest, context: ServicerContext
    ) -> pb.GetClusterResponse:
        return pb.GetClusterResponse(cluster=self._cluster.own)
