"""The rpcs of one user of the scheduler, like those of `loadtests/rpcs.py`. All of them may be sent again."""

from collections.abc import Iterator, Sequence

import grpc

from loadtests.rpcs import Calls, Report
from tally.scheduler.v1 import job_pb2 as jobs
from tally.scheduler.v1 import population_pb2 as populations
from tally.scheduler.v1 import work_pb2 as work
from tally.scheduler.v1.job_pb2_grpc import JobServiceStub
from tally.scheduler.v1.population_pb2_grpc import PopulationServiceStub
from tally.scheduler.v1.work_pb2_grpc import WorkServiceStub

HANDLER = "metadata"
POPULATION = "youtube_video"
_PAGE_ROWS = 100


class SyncRpcs(Calls):
    """Blocking calls for one greenlet. Each raises grpc.RpcError in the end."""

    def __init__(self, address: str, report: Report) -> None:
        super().__init__(address, report)
        self._work = WorkServiceStub(self.channel)
        self._jobs = JobServiceStub(self.channel)
        self._populations = PopulationServiceStub(self.channel)

    # A worker

    def lease(self, worker: str, number: int) -> work.Lease | None:
        """A slot, or None if none is due."""
        request = work.LeaseSlotRequest(
            worker=worker, request_number=number, handlers=[work.Handler(name=HANDLER)]
        )
        answer = self.call("LeaseSlot", self._work.LeaseSlot, request)
        return answer.lease if answer.HasField("lease") else None

    def report(self, lease: work.Lease, batch: work.Batch) -> work.ReportItemsResponse:
        """Every item of the batch is synced. FAILED_PRECONDITION: the lease is lost."""
        items = [work.ItemOutcome(id=item.id, outcome=work.OUTCOME_SYNCED) for item in batch.items]
        request = work.ReportItemsRequest(
            slot=lease.slot, token=lease.token, begin_key=batch.begin_key, items=items
        )
        answer: work.ReportItemsResponse = self.call("ReportItems", self._work.ReportItems, request)
        return answer

    def give_back(self, lease: work.Lease) -> None:
        """The batch whose turn it is was not sent. FAILED_PRECONDITION: the lease is lost."""
        request = work.CompleteSlotRequest(
            slot=lease.slot, token=lease.token, reason=work.GIVE_BACK_REASON_NOT_SENT
        )
        self.call("CompleteSlot", self._work.CompleteSlot, request)

    # An operator

    def count_members(self) -> int:
        """The members of the population."""
        request = populations.GetBinDistributionRequest(population=POPULATION, bin_max=1)
        answer = self.call("GetBinDistribution", self._populations.GetBinDistribution, request)
        return sum(answer.member_counts)

    def put_videos(self, ids: Sequence[str]) -> None:
        """Put members."""
        request = populations.PutVideosRequest(videos=[populations.Video(youtube_id=each) for each in ids])

        def send(_: None, timeout: float) -> populations.PutVideosResponse:
            answer: populations.PutVideosResponse = self._populations.PutVideos(
                iter([request]), timeout=timeout
            )
            return answer

        self.call("PutVideos", send, None)

    def put_quota(self, quota: jobs.Quota) -> None:
        """Define a quota."""
        self.call("PutQuota", self._jobs.PutQuota, jobs.PutQuotaRequest(quota=quota))

    def put_job(self, job: jobs.Job) -> None:
        """Define a job."""
        self.call("PutJob", self._jobs.PutJob, jobs.PutJobRequest(job=job))

    def run_job(self, name: str, request_id: str) -> jobs.Run:
        """A run whose slots are all due; the same one for the same request id."""
        request = jobs.RunJobRequest(name=name, request_id=request_id)
        run: jobs.Run = self.call("RunJob", self._jobs.RunJob, request).run
        return run

    def list_runs(self, job: str) -> Iterator[jobs.Run]:
        """Every run of a job, page by page."""
        token = ""
        while True:
            request = jobs.ListRunsRequest(job=job, page_size=_PAGE_ROWS, page_token=token)
            answer = self.call("ListRuns", self._jobs.ListRuns, request)
            yield from answer.runs
            if not (token := answer.next_page_token):
                return

    def used_units(self, quota: str) -> int:
        """The units of a quota that were paid for its current day."""
        answer = self.call("ListQuotas", self._jobs.ListQuotas, jobs.ListQuotasRequest(page_size=1_000))
        return int(next(each.used_units for each in answer.quotas if each.quota.name == quota))


def is_lost(error: grpc.RpcError) -> bool:
    """Whether a lease is not in force any more."""
    return bool(error.code() is grpc.StatusCode.FAILED_PRECONDITION)
