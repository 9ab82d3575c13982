"""A worker's calls to several schedulers."""

from libs.telemetry.setup import OFF
from services.worker.scheduler import Scheduler
from services.worker.settings import WorkerSettings
from tally.scheduler.v1 import work_pb2 as pb
from tests.support.peer import ANY, never_answer, open_peer

SERVICE = "tally.scheduler.v1.WorkService"


async def test_a_frozen_scheduler_costs_one_timeout_and_not_one_for_each_call() -> None:
    async with open_peer(SERVICE) as frozen, open_peer(SERVICE) as other:
        frozen.answers[ANY] = never_answer
        settings = WorkerSettings(scheduler=(frozen.address, other.address), call_timeout_seconds=0.2)
        scheduler = Scheduler(settings, OFF)
        scheduler.first = 0
        try:
            for _ in range(3):
                await scheduler.report_items(pb.ReportItemsRequest(slot="1/1", token=1))
                await scheduler.extend_lease(pb.ExtendLeaseRequest(slot="1/1", token=1))
        finally:
            await scheduler.close()
    assert [each.rpc for each in frozen.received] == ["ReportItems"]
    assert [each.rpc for each in other.received] == ["ReportItems", "ExtendLease"] * 3
