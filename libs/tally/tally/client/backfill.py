"""The backfill: jobs over Bluesky repositories, and what they fill is counted."""

# ruff: noqa: ASYNC109 - the service is told the deadline of a call, and asyncio.timeout would keep it here

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from tally.backfill.v1 import backfill_pb2 as pb
from tally.client._calls.methods import Method
from tally.client._calls.namespace import Namespace
from tally.client._checks.times import from_timestamp

_SERVICE = "/tally.backfill.v1.BackfillService"
_CREATE = Method(f"{_SERVICE}/CreateJob", pb.CreateJobRequest, pb.CreateJobResponse.FromString)
_GET = Method(f"{_SERVICE}/GetJob", pb.GetJobRequest, pb.GetJobResponse.FromString)
_LIST = Method(f"{_SERVICE}/ListJobs", pb.ListJobsRequest, pb.ListJobsResponse.FromString)
_FAILURES = Method(f"{_SERVICE}/ListFailures", pb.ListFailuresRequest, pb.ListFailuresResponse.FromString)
_COUNT = Method(f"{_SERVICE}/CountDataset", pb.CountDatasetRequest, pb.CountDatasetResponse.FromString)

_BATCH = 5_000


@dataclass(frozen=True, slots=True)
class BackfillJob:
    """A job, and how many of its accounts are where. `done`: each is stored or was given up."""

    job_id: str
    done: bool
    create_time: datetime
    batch_size: int
    repo_count: int
    waiting_count: int
    ready_count: int
    stored_count: int
    failed_count: int
    record_count: int

    @classmethod
    def from_message(cls, message: pb.Job) -> "BackfillJob":
        return cls(
            job_id=message.job_id,
            done=message.done,
            create_time=from_timestamp(message.create_time),
            batch_size=message.batch_size,
            repo_count=message.repo_count,
            waiting_count=message.waiting_count,
            ready_count=message.ready_count,
            stored_count=message.stored_count,
            failed_count=message.failed_count,
            record_count=message.record_count,
        )


@dataclass(frozen=True, slots=True)
class CreatedJob:
    """A job that was created. `was_there`: it was there before, over the same accounts."""

    job: BackfillJob
    was_there: bool


@dataclass(frozen=True, slots=True)
class FailedRepo:
    """An account that was given up: why, as a stable name and in words, and after how many attempts."""

    did: str
    reason: str
    detail: str
    attempts: int


@dataclass(frozen=True, slots=True)
class CountedBucket:
    """The outcome of a bucket. Counts are of events.

    `pending_count`: their receipt is still to come, so count again. `unknown_count`: too old to be sent again, without
    a receipt. `other_count`: likes and reposts of no known video. `total_count`: all that are counted now.
    """

    bucket: int
    counted_count: int
    pending_count: int
    unknown_count: int
    other_count: int
    total_count: int


class Backfill(Namespace):
    """The part of tally.client.Client that speaks of the backfill."""

    async def create_job(
        self, job_id: str, dids: Iterable[str], *, batch_size: int = 0, timeout: float | None = None
    ) -> CreatedJob:
        """Create a job over accounts; with the same id and the same accounts in the same order again, resume it.

        `batch_size`: accounts in a batch, 0 is 50. Raises InvalidRequest for an entry that is no did:plc or did:web,
        and when the id names a job over others.
        """
        stream = self._open().stream(_CREATE, _requests(job_id, dids, batch_size), timeout, pending={})
        async with aclosing(stream) as answers:
            answer = await anext(answers)
        return CreatedJob(BackfillJob.from_message(answer.job), answer.was_there)

    async def get_job(self, job_id: str = "", *, timeout: float | None = None) -> BackfillJob:
        """A job; without an id the latest. Raises NotFound."""
        answer = await self._open().call(_GET, pb.GetJobRequest(job_id=job_id), timeout)
        return BackfillJob.from_message(answer.job)

    async def list_jobs(self, *, timeout: float | None = None) -> AsyncGenerator[BackfillJob, None]:
        """Every job, newest first. `timeout`: for each page."""
        token = ""
        while True:
            answer = await self._open().call(_LIST, pb.ListJobsRequest(page_token=token), timeout)
            for job in answer.jobs:
                yield BackfillJob.from_message(job)
            token = answer.next_page_token
            if not token:
                return

    async def list_failures(
        self, job_id: str = "", *, timeout: float | None = None
    ) -> AsyncGenerator[FailedRepo, None]:
        """Every account of a job that was given up. `timeout`: for each page. Raises NotFound."""
        token = ""
        while True:
            request = pb.ListFailuresRequest(job_id=job_id, page_token=token)
            answer = await self._open().call(_FAILURES, request, timeout)
            for each in answer.failures:
                yield FailedRepo(each.did, each.reason, each.detail, each.attempts)
            token = answer.next_page_token
            if not token:
                return

    async def count_dataset(self, *, timeout: float | None = None) -> AsyncGenerator[CountedBucket, None]:
        """Count what the dataset has and was not counted yet; the buckets as they are done. Harmless to repeat."""
        stream = self._open().stream(_COUNT, _once(pb.CountDatasetRequest()), timeout, pending={})
        async with aclosing(stream) as answers:
            async for answer in answers:
                yield CountedBucket(
                    answer.bucket,
                    answer.counted_count,
                    answer.pending_count,
                    answer.unknown_count,
                    answer.other_count,
                    answer.total_count,
                )


async def _requests(job_id: str, dids: Iterable[str], batch_size: int) -> AsyncIterator[pb.CreateJobRequest]:
    """Messages of at most 5,000 accounts; the first has the rest of the job."""
    remaining = iter(dids)
    yield pb.CreateJobRequest(job_id=job_id, batch_size=batch_size, dids=islice(remaining, _BATCH))
    while batch := list(islice(remaining, _BATCH)):
        yield pb.CreateJobRequest(dids=batch)


async def _once(request: pb.CountDatasetRequest) -> AsyncIterator[pb.CountDatasetRequest]:
    yield request
