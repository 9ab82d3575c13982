"""WorkService: protobuf ↔ leases and reports."""

from libs.rpc.types import ServicerContext
from services.scheduler.leases import Leases
from services.scheduler.reports import Reports
from services.scheduler.returns import Returns
from services.scheduler.timekeeper import Timekeeper
from services.scheduler.work_wire import answer_of, lease_of, read_ask, read_report, read_return, read_wait
from tally.scheduler.v1 import work_pb2 as pb
from tally.scheduler.v1.work_pb2_grpc import WorkServiceServicer


class WorkServicer(WorkServiceServicer):
    """Serves workers."""

    def __init__(self, leases: Leases, reports: Reports, returns: Returns, timekeeper: Timekeeper) -> None:
        self._leases = leases
        self._reports = reports
        self._returns = returns
        self._timekeeper = timekeeper

    async def LeaseSlot(self, request: pb.LeaseSlotRequest, context: ServicerContext) -> pb.LeaseSlotResponse:
        began = self._timekeeper.monotonic()
        lease = await self._leases.lease(read_ask(request), read_wait(request.wait_seconds))
        return pb.LeaseSlotResponse(lease=None if lease is None else lease_of(lease, began))

    async def ExtendLease(
        self, request: pb.ExtendLeaseRequest, context: ServicerContext
    ) -> pb.ExtendLeaseResponse:
        return pb.ExtendLeaseResponse(lease_seconds=await self._returns.extend(request.slot, request.token))

    async def ReportItems(
        self, request: pb.ReportItemsRequest, context: ServicerContext
    ) -> pb.ReportItemsResponse:
        began = self._timekeeper.monotonic()
        return answer_of(await self._reports.report(read_report(request)), began)

    async def CompleteSlot(
        self, request: pb.CompleteSlotRequest, context: ServicerContext
    ) -> pb.CompleteSlotResponse:
        return pb.CompleteSlotResponse(repeated_answer=await self._returns.give_back(read_return(request)))
