"""BackfillService: protobuf ↔ jobs and the dataset."""

from collections.abc import AsyncIterator
from typing import Any

from libs.rpc.paging import read_size, read_token, write_token
from libs.rpc.types import ServicerContext
from services.backfill.counting import Counting
from services.backfill.jobs import create_job, list_failures, list_jobs, read_job
from services.backfill.wire import failure_of, job_of, read_wish, report_of
from tally.backfill.v1 import backfill_pb2 as pb
from tally.backfill.v1.backfill_pb2_grpc import BackfillServiceServicer

_PAGE = 100


class BackfillServicer(BackfillServiceServicer):
    """Serves jobs, and counts."""

    def __init__(self, pool: Any, counting: Counting) -> None:
        self._pool = pool
        self._counting = counting

    async def CreateJob(
        self, requests: AsyncIterator[pb.CreateJobRequest], context: ServicerContext
    ) -> pb.CreateJobResponse:
        wish, batches = await read_wish(requests)
        was_there = await create_job(self._pool, wish, batches)
        return pb.CreateJobResponse(job=job_of(await read_job(self._pool, wish.job_id)), was_there=was_there)

    async def GetJob(self, request: pb.GetJobRequest, context: ServicerContext) -> pb.GetJobResponse:
        return pb.GetJobResponse(job=job_of(await read_job(self._pool, request.job_id)))

    async def ListJobs(self, request: pb.ListJobsRequest, context: ServicerContext) -> pb.ListJobsResponse:
        size = read_size(request.page_size, _PAGE)
        rows = await list_jobs(self._pool, read_token(request.page_token), size + 1)
        token = write_token(rows[size - 1]["job_id"]) if len(rows) > size else ""
        return pb.ListJobsResponse(jobs=map(job_of, rows[:size]), next_page_token=token)

    async def ListFailures(
        self, request: pb.ListFailuresRequest, context: ServicerContext
    ) -> pb.ListFailuresResponse:
        size = read_size(request.page_size, _PAGE)
        after = read_token(request.page_token, request.job_id)
        job_id = (await read_job(self._pool, request.job_id))["job_id"]
        rows = await list_failures(self._pool, job_id, after, size + 1)
        token = write_token(rows[size - 1]["did"], request.job_id) if len(rows) > size else ""
        return pb.ListFailuresResponse(failures=map(failure_of, rows[:size]), next_page_token=token)

    async def CountDataset(
        self, request: pb.CountDatasetRequest, context: ServicerContext
    ) -> AsyncIterator[pb.CountDatasetResponse]:
        async for report in self._counting.run():
            yield report_of(report)
