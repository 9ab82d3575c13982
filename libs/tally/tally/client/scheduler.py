"""The scheduler: members of populations, jobs and their runs, quotas, workers."""

# ruff: noqa: ASYNC109 - the service is told the deadline of a call, and asyncio.timeout would keep it here

import asyncio
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Generic, TypeVar

from tally.client._calls.methods import Answer, Method, Request
from tally.client._calls.namespace import Namespace
from tally.client._checks.times import from_timestamp, to_timestamp
from tally.client._scheduler.dead_letters import DeadLetter
from tally.client._scheduler.forced import ForcedState, ForcedSync
from tally.client._scheduler.jobs import BinNumbers, Job, JobStatus, Period, Window, cadence_message
from tally.client._scheduler.members import MOST_ROWS, Channel, Put, Video, cut, shift_rows
from tally.client._scheduler.quotas import Quota, QuotaStatus
from tally.client._scheduler.runs import OutcomeCounts, Run, RunState, Worker, state_number
from tally.contract.errors import InvalidRequest
from tally.scheduler.v1 import job_pb2 as jobs
from tally.scheduler.v1 import population_pb2 as populations

__all__ = [
    "BinNumbers",
    "Channel",
    "DeadLetter",
    "ForcedState",
    "ForcedSync",
    "Job",
    "JobStatus",
    "OutcomeCounts",
    "Page",
    "Period",
    "Put",
    "Quota",
    "QuotaStatus",
    "Run",
    "RunState",
    "Scheduler",
    "Video",
    "Window",
    "Worker",
]

T = TypeVar("T")

PUT_TIMEOUT_S = 60.0
FORCE_WAIT_S = 15.0
_ANSWER_TIMEOUT_S = 10.0
PLAN_TIMEOUT_S = 120.0
"""A run of millions of members is cut into slots before the answer."""

_POPULATIONS = "/tally.scheduler.v1.PopulationService"
# Streams of requests; one message and the end of the stream are the same bytes as a single request.
_PUT_VIDEOS = Method(
    f"{_POPULATIONS}/PutVideos", populations.PutVideosRequest, populations.PutVideosResponse.FromString
)
_PUT_CHANNELS = Method(
    f"{_POPULATIONS}/PutChannels", populations.PutChannelsRequest, populations.PutChannelsResponse.FromString
)
_GET_BINS = Method(
    f"{_POPULATIONS}/GetBinDistribution",
    populations.GetBinDistributionRequest,
    populations.GetBinDistributionResponse.FromString,
)
_JOBS = "/tally.scheduler.v1.JobService"
_PUT_JOB = Method(f"{_JOBS}/PutJob", jobs.PutJobRequest, jobs.PutJobResponse.FromString)
_GET_JOB = Method(f"{_JOBS}/GetJob", jobs.GetJobRequest, jobs.GetJobResponse.FromString)
_LIST_JOBS = Method(f"{_JOBS}/ListJobs", jobs.ListJobsRequest, jobs.ListJobsResponse.FromString)
_PAUSE_JOB = Method(f"{_JOBS}/PauseJob", jobs.PauseJobRequest, jobs.PauseJobResponse.FromString)
_RESUME_JOB = Method(f"{_JOBS}/ResumeJob", jobs.ResumeJobRequest, jobs.ResumeJobResponse.FromString)
_RUN_JOB = Method(f"{_JOBS}/RunJob", jobs.RunJobRequest, jobs.RunJobResponse.FromString)
_CANCEL_RUN = Method(f"{_JOBS}/CancelRun", jobs.CancelRunRequest, jobs.CancelRunResponse.FromString)
_FORCE_SYNC = Method(f"{_JOBS}/ForceSync", jobs.ForceSyncRequest, jobs.ForceSyncResponse.FromString)
_LIST_RUNS = Method(f"{_JOBS}/ListRuns", jobs.ListRunsRequest, jobs.ListRunsResponse.FromString)
_LIST_LETTERS = Method(
    f"{_JOBS}/ListDeadLetters", jobs.ListDeadLettersRequest, jobs.ListDeadLettersResponse.FromString
)
_RETRY_LETTERS = Method(
    f"{_JOBS}/RetryDeadLetters", jobs.RetryDeadLettersRequest, jobs.RetryDeadLettersResponse.FromString
)
_DROP_LETTERS = Method(
    f"{_JOBS}/DropDeadLetters", jobs.DropDeadLettersRequest, jobs.DropDeadLettersResponse.FromString
)
_LIST_WORKERS = Method(f"{_JOBS}/ListWorkers", jobs.ListWorkersRequest, jobs.ListWorkersResponse.FromString)
_GET_BIN_NUMBERS = Method(
    f"{_JOBS}/GetCurrentBinNumbers",
    jobs.GetCurrentBinNumbersRequest,
    jobs.GetCurrentBinNumbersResponse.FromString,
)
_PUT_QUOTA = Method(f"{_JOBS}/PutQuota", jobs.PutQuotaRequest, jobs.PutQuotaResponse.FromString)
_LIST_QUOTAS = Method(f"{_JOBS}/ListQuotas", jobs.ListQuotasRequest, jobs.ListQuotasResponse.FromString)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list, and what asks for the part after it: empty when there is none."""

    items: tuple[T, ...]
    next_page_token: str


class Scheduler(Namespace):
    """The part of tally.client.Client that speaks to the scheduler: `client.scheduler`.

    Each method may be called again after a call without an answer. In lists, a `page_size` of 0 is 50, and 1,000 is
    the most. A `timeout` is in seconds. Every method raises TallyError.
    """

    async def put_videos(
        self, videos: Iterable[Video] | AsyncIterable[Video], *, timeout: float = PUT_TIMEOUT_S
    ) -> Put:
        """Insert videos that are new, and update those that differ, in batches of 5,000 that are committed in order.

        `timeout`: of each batch. An iterable that is no sequence is read in a thread. After an error some batches may
        have been put; put all of them again. InvalidRequest names rows by their place among `videos`.
        """
        put, first = Put(), 0
        async for some in _pieces(videos):
            for batch in cut(video.to_message() for video in some):
                request = populations.PutVideosRequest(videos=batch)
                answer = await self._put(_PUT_VIDEOS, request, first, timeout)
                put += Put.from_message(answer)
                first += len(batch)
        return put

    async def put_channels(
        self, channels: Iterable[Channel] | AsyncIterable[Channel], *, timeout: float = PUT_TIMEOUT_S
    ) -> Put:
        """The same for channels."""
        put, first = Put(), 0
        async for some in _pieces(channels):
            for batch in cut(channel.to_message() for channel in some):
                request = populations.PutChannelsRequest(channels=batch)
                answer = await self._put(_PUT_CHANNELS, request, first, timeout)
                put += Put.from_message(answer)
                first += len(batch)
        return put

    async def get_bin_distribution(
        self, population: str, bin_max: int, *, timeout: float | None = None
    ) -> tuple[int, ...]:
        """How many members each of the bins 0 to `bin_max` - 1 has."""
        request = populations.GetBinDistributionRequest(population=population, bin_max=bin_max)
        return tuple((await self._call(_GET_BINS, request, timeout)).member_counts)

    # Jobs and runs

    async def put_job(self, job: Job, *, timeout: float | None = None) -> JobStatus:
        """Define a job, or change its definition from the next run on. InvalidRequest names every wrong field."""
        answer = await self._call(_PUT_JOB, jobs.PutJobRequest(job=job.to_message()), timeout)
        return JobStatus.from_message(answer.status)

    async def get_job(self, name: str, *, timeout: float | None = None) -> JobStatus:
        """One job. Raises NotFound."""
        return JobStatus.from_message(
            (await self._call(_GET_JOB, jobs.GetJobRequest(name=name), timeout)).status
        )

    async def list_jobs(
        self, *, page_size: int = 0, page_token: str = "", timeout: float | None = None
    ) -> Page[JobStatus]:
        """Jobs, by name."""
        request = jobs.ListJobsRequest(page_size=page_size, page_token=page_token)
        answer = await self._call(_LIST_JOBS, request, timeout)
        return Page(tuple(map(JobStatus.from_message, answer.jobs)), answer.next_page_token)

    async def pause_job(self, name: str, reason: str, *, timeout: float | None = None) -> JobStatus:
        """Hold back all slots of a job but forced ones, and plan no runs. Raises NotFound."""
        request = jobs.PauseJobRequest(name=name, reason=reason)
        return JobStatus.from_message((await self._call(_PAUSE_JOB, request, timeout)).status)

    async def resume_job(self, name: str, *, timeout: float | None = None) -> JobStatus:
        """End a pause; logical times that were missed are caught up with. Raises NotFound."""
        request = jobs.ResumeJobRequest(name=name)
        return JobStatus.from_message((await self._call(_RESUME_JOB, request, timeout)).status)

    async def run_job(
        self,
        name: str,
        *,
        within_seconds: int = 0,
        request_id: str | None = None,
        timeout: float = PLAN_TIMEOUT_S,
    ) -> Run:
        """Plan a run now, beside those of the cadence. Raises NotFound.

        `within_seconds`: its slots become due over this time; 0: at once. `request_id`: a UUID; the same one plans one
        run, however often it is sent.
        """
        request = jobs.RunJobRequest(
            name=name, within_seconds=within_seconds, request_id=request_id or str(uuid.uuid4())
        )
        return Run.from_message((await self._call(_RUN_JOB, request, timeout)).run)

    async def cancel_run(self, run_id: int, reason: str, *, timeout: float | None = None) -> Run:
        """Cancel a run: its queued slots and retries are dropped, a batch under way is still recorded.

        Raises NotFound, and RunEnded when it has ended otherwise.
        """
        request = jobs.CancelRunRequest(run_id=run_id, reason=reason)
        return Run.from_message((await self._call(_CANCEL_RUN, request, timeout)).run)

    async def force_sync(
        self,
        job: str,
        item_id: str,
        *,
        wait_seconds: float = FORCE_WAIT_S,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> ForcedSync:
        """Sync one item now, before all other work and from the protected share of the quotas, also in a pause.

        `wait_seconds`: for the outcome, at most 20; after that the item is still synced. If a forced sync of the item
        is in progress in this job, it is that one. `request_id`: a UUID; the same one plans one run, however often it
        is sent. Raises NotFound when there is no such job, or it does not select the item.
        """
        request = jobs.ForceSyncRequest(
            job=job,
            item_id=item_id,
            request_id=request_id or str(uuid.uuid4()),
            wait_seconds=wait_seconds,
        )
        deadline = wait_seconds + _ANSWER_TIMEOUT_S if timeout is None else timeout
        return ForcedSync.from_message(await self._call(_FORCE_SYNC, request, deadline))

    async def list_runs(
        self,
        job: str = "",
        *,
        state: RunState | str | None = None,
        page_size: int = 0,
        page_token: str = "",
        timeout: float | None = None,
    ) -> Page[Run]:
        """Runs of a job, or of all of them, newest first; those in a state, or all."""
        request = jobs.ListRunsRequest(
            job=job, state=state_number(state), page_size=page_size, page_token=page_token
        )
        answer = await self._call(_LIST_RUNS, request, timeout)
        return Page(tuple(map(Run.from_message, answer.runs)), answer.next_page_token)

    async def list_dead_letters(
        self, job: str, *, page_size: int = 0, page_token: str = "", timeout: float | None = None
    ) -> Page[DeadLetter]:
        """The items of a job that were given up, by id. Raises NotFound."""
        request = jobs.ListDeadLettersRequest(job=job, page_size=page_size, page_token=page_token)
        answer = await self._call(_LIST_LETTERS, request, timeout)
        return Page(tuple(map(DeadLetter.from_message, answer.dead_letters)), answer.next_page_token)

    async def retry_dead_letters(
        self,
        job: str,
        item_ids: Sequence[str],
        *,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Run:
        """Plan a run of items that were given up, at most 1,000. Raises NotFound if none of them was.

        `request_id`: a UUID; the same one plans one run, however often it is sent.
        """
        request = jobs.RetryDeadLettersRequest(
            job=job, item_ids=item_ids, request_id=request_id or str(uuid.uuid4())
        )
        return Run.from_message((await self._call(_RETRY_LETTERS, request, timeout)).run)

    async def drop_dead_letters(
        self, job: str, item_ids: Sequence[str], *, timeout: float | None = None
    ) -> int:
        """Remove items from the list, at most 1,000; how many were in it. Raises NotFound for a job."""
        request = jobs.DropDeadLettersRequest(job=job, item_ids=item_ids)
        return (await self._call(_DROP_LETTERS, request, timeout)).dropped_count

    async def list_workers(
        self, *, page_size: int = 0, page_token: str = "", timeout: float | None = None
    ) -> Page[Worker]:
        """The workers that asked for work within the last minute, or hold a lease; by name."""
        request = jobs.ListWorkersRequest(page_size=page_size, page_token=page_token)
        answer = await self._call(_LIST_WORKERS, request, timeout)
        return Page(tuple(map(Worker.from_message, answer.workers)), answer.next_page_token)

    async def get_current_bin_numbers(
        self,
        cadence: str | Period,
        *,
        phase: int = 0,
        at_time: datetime | None = None,
        timeout: float | None = None,
    ) -> BinNumbers:
        """The bins that a cadence selects at a time; None is now."""
        request = jobs.GetCurrentBinNumbersRequest(
            cadence=cadence_message(cadence, phase), at_time=to_timestamp(at_time, "at_time")
        )
        answer = await self._call(_GET_BIN_NUMBERS, request, timeout)
        return BinNumbers(tuple(answer.bin_numbers), answer.bin_max, from_timestamp(answer.logical_time))

    # Quotas

    async def put_quota(self, quota: Quota, *, timeout: float | None = None) -> QuotaStatus:
        """Define a quota, or change its limit, protected share or send_within."""
        answer = await self._call(_PUT_QUOTA, jobs.PutQuotaRequest(quota=quota.to_message()), timeout)
        return QuotaStatus.from_message(answer.status)

    async def list_quotas(
        self, *, page_size: int = 0, page_token: str = "", timeout: float | None = None
    ) -> Page[QuotaStatus]:
        """Quotas, by name, with what is used of each."""
        request = jobs.ListQuotasRequest(page_size=page_size, page_token=page_token)
        answer = await self._call(_LIST_QUOTAS, request, timeout)
        return Page(tuple(map(QuotaStatus.from_message, answer.quotas)), answer.next_page_token)

    async def _call(self, method: Method[Request, Answer], request: Request, timeout: float | None) -> Answer:
        return await self._open().call(method, request, timeout)

    async def _put(
        self, method: Method[Request, Answer], request: Request, first: int, timeout: float
    ) -> Answer:
        try:
            return await self._call(method, request, timeout)
        except InvalidRequest as error:
            raise shift_rows(error, first) from None


async def _pieces(rows: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[Sequence[T]]:
    """The rows, some at a time. Blocking iterables are read in a thread, so that the event loop is not blocked."""
    if isinstance(rows, Sequence):
        yield rows
    elif isinstance(rows, AsyncIterable):
        piece: list[T] = []
        async for row in rows:
            piece.append(row)
            if len(piece) == MOST_ROWS:
                yield piece
                piece = []
        yield piece
    else:
        iterator: Iterator[T] = iter(rows)
        while some := await asyncio.to_thread(lambda: list(islice(iterator, MOST_ROWS))):
            yield some
