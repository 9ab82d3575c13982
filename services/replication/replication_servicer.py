"""ReplicationService: protobuf ↔ regions, transfers, explanations and verdicts, for operators."""

from typing import Any

from libs.rpc.types import ServicerContext
from libs.stores.postgres import reaching_postgres
from services.replication.checks import read_uuid
from services.replication.epoch import confirm_life
from services.replication.explain import explain_strategy
from services.replication.messages import STRATEGIES, write_location
from services.replication.metrics import ReplicationMetrics
from services.replication.peering import Peering
from services.replication.progress import list_transfers
from services.replication.reading import find_location
from services.replication.regions import Region, list_regions, remove_region
from services.replication.rows import MODEL
from services.replication.settings import ReplicationSettings
from services.replication.state import want_location
from services.replication.strategy import Strategy
from services.replication.verify import Verdict
from services.replication.wire import write_sums
from tally.contract.errors import InvalidRequest, NotFound, Violation
from tally.replication.v1 import replication_pb2 as pb
from tally.replication.v1.replication_pb2_grpc import ReplicationServiceServicer

_POLICIES = {pb.POLICY_UNSPECIFIED: "follow", pb.POLICY_FOLLOW: "follow", pb.POLICY_LAZY: "lazy"}
_POLICY_NUMBERS = {"follow": pb.POLICY_FOLLOW, "lazy": pb.POLICY_LAZY}
_VERDICTS = {
    Verdict.EQUAL: pb.VERDICT_EQUAL,
    Verdict.DIFFERENT: pb.VERDICT_DIFFERENT,
    Verdict.LATE: pb.VERDICT_LATE,
    Verdict.BEHIND: pb.VERDICT_BEHIND,
}
_PAGE, _LARGEST_PAGE = 50, 1_000


class ReplicationServicer(ReplicationServiceServicer):
    """Serves operators."""

    def __init__(
        self, pool: Any, peering: Peering, settings: ReplicationSettings, metrics: ReplicationMetrics
    ) -> None:
        """`pool`: for long statements."""
        self._pool = pool
        self._peering = peering
        self._settings = settings
        self._metrics = metrics

    async def ListPeers(self, request: pb.ListPeersRequest, context: ServicerContext) -> pb.ListPeersResponse:
        with reaching_postgres():
            return pb.ListPeersResponse(regions=map(_write_region, await list_regions(self._pool)))

    async def PutPeer(self, request: pb.PutPeerRequest, context: ServicerContext) -> pb.PutPeerResponse:
        if request.policy not in _POLICIES:
            raise InvalidRequest(
                [Violation("policy", f"is {request.policy}, which is no policy of this api")]
            )
        with reaching_postgres():
            region = await self._peering.put_peer(request.address, _POLICIES[request.policy])
        return pb.PutPeerResponse(region=_write_region(region))

    async def RemovePeer(
        self, request: pb.RemovePeerRequest, context: ServicerContext
    ) -> pb.RemovePeerResponse:
        device = read_uuid(request.device_id, "device_id")
        with reaching_postgres():
            region = await self._peering.find(device)
            if region.is_own:
                raise InvalidRequest([Violation("device_id", "is this region itself")])
            await remove_region(self._pool, device)
        return pb.RemovePeerResponse()

    async def LoadLocation(
        self, request: pb.LoadLocationRequest, context: ServicerContext
    ) -> pb.LoadLocationResponse:
        location = read_uuid(request.location_id, "location_id")
        with reaching_postgres():
            async with self._pool.acquire() as connection, connection.transaction():
                await want_location(connection, location)
            found = await find_location(self._pool, location)
        if found is None or found.is_own:
            raise NotFound(f"no other region's location {location} is known here")
        return pb.LoadLocationResponse(location=write_location(found))

    async def ListTransfers(
        self, request: pb.ListTransfersRequest, context: ServicerContext
    ) -> pb.ListTransfersResponse:
        limit = min(max(request.page_size, 0) or _PAGE, _LARGEST_PAGE)
        with reaching_postgres():
            return pb.ListTransfersResponse(
                transfers=map(_write_transfer, await list_transfers(self._pool, limit))
            )

    async def ExplainStrategy(
        self, request: pb.ExplainStrategyRequest, context: ServicerContext
    ) -> pb.ExplainStrategyResponse:
        peer = read_uuid(request.peer_device_id, "peer_device_id") if request.peer_device_id else None
        with reaching_postgres():
            life = await confirm_life(self._pool)
            found = await explain_strategy(self._pool, life, self._settings.strategy, peer)
        return pb.ExplainStrategyResponse(
            explanations=[
                pb.Explanation(
                    peer_device_id=str(each.peer),
                    model_type=MODEL,
                    location_id=str(each.location) if each.location else "",
                    strategy=STRATEGIES[each.strategy],
                    reason=each.reason,
                    rows=each.rows,
                    bytes=each.size,
                    seconds=each.seconds,
                )
                for each in found
            ]
        )

    async def Verify(self, request: pb.VerifyRequest, context: ServicerContext) -> pb.VerifyResponse:
        device = read_uuid(request.device_id, "device_id")
        location = read_uuid(request.location_id, "location_id") if request.location_id else None
        found = await self._peering.verify(device, location)
        self._metrics.differed(sum(verdict is Verdict.DIFFERENT for _, verdict, _, _ in found))
        return pb.VerifyResponse(
            locations=[
                pb.LocationVerdict(
                    location_id=str(key),
                    verdict=_VERDICTS[verdict],
                    here=write_sums(here),
                    there=write_sums(there),
                )
                for key, verdict, here, there in found
            ]
        )


def _write_region(region: Region) -> pb.Region:
    message = pb.Region(
        device_id=str(region.device),
        name=region.name,
        address=region.address,
        is_own=region.is_own,
        epoch=region.epoch,
        policy=_POLICY_NUMBERS[region.policy],
        is_connected=region.is_held and not region.problem,
        problem=region.problem,
        watermark=region.watermark,
    )
    if region.as_of is not None:
        message.as_of.FromDatetime(region.as_of)
    if region.counts_as_of is not None:
        message.counts_as_of.FromDatetime(region.counts_as_of)
    return message


def _write_transfer(row: Any) -> pb.Transfer:
    return pb.Transfer(
        transfer_id=str(row["id"]),
        device_id=str(row["device"]),
        strategy=STRATEGIES[Strategy(row["strategy"])],
        location_id=str(row["location"]) if row["location"] else "",
        phase=row["phase"],
        rows_done=row["rows_done"],
        rows_total=row["rows_total"],
        bytes_done=row["bytes_done"],
        rows_again=row["rows_again"],
        error=row["error"],
        begin_time=row["begun_at"],
        update_time=row["updated_at"],
    )
