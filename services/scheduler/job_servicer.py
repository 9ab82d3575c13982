"""JobService: protobuf ↔ jobs, runs, workers and quotas."""

import json
from datetime import timedelta
from typing import Any

from libs.domain.cadence import get_current_bin_numbers, period_start
from libs.rpc.paging import read_size, read_token, write_token
from libs.rpc.types import ServicerContext
from libs.stores.postgres import reaching_postgres
from services.scheduler.dead_letters import drop_letters, list_letters
from services.scheduler.forced import wait_for
from services.scheduler.job_rows import (
    JobState,
    count_members,
    list_jobs,
    list_workers,
    put_job,
    read_job,
    set_state,
)
from services.scheduler.job_rules import FEW_MEMBERS, read_cadence, read_definition
from services.scheduler.job_wire import (
    forced_of,
    job_status_of,
    letter_of,
    quota_status_of,
    read_items,
    read_quota,
    read_reason,
    read_request_id,
    read_run_state,
    read_time,
    read_within,
    run_of,
    worker_of,
)
from services.scheduler.metrics import EndReason, Metrics
from services.scheduler.planner import Planner
from services.scheduler.quota_rows import list_quotas, most_units, put_quota
from services.scheduler.runs import cancel_run, list_runs, read_run
from services.scheduler.timekeeper import Timekeeper
from services.scheduler.wakeups import Bell
from services.scheduler.work_wire import read_wait, timestamp
from tally.contract.errors import InvalidRequest, NotFound, Violation
from tally.scheduler.v1 import job_pb2 as pb
from tally.scheduler.v1.job_pb2_grpc import JobServiceServicer

_WORKER_SEEN = timedelta(minutes=1)


class JobServicer(JobServiceServicer):
    """Serves jobs, runs, workers and quotas."""

    def __init__(
        self,
        pool: Any,
        timekeeper: Timekeeper,
        planner: Planner,
        bin_space: int,
        metrics: Metrics,
        heard: Bell,
    ) -> None:
        """`heard` rings when any scheduler has changed something."""
        self._pool = pool
        self._timekeeper = timekeeper
        self._planner = planner
        self._bin_space = bin_space
        self._metrics = metrics
        self._heard = heard

    async def PutJob(self, request: pb.PutJobRequest, context: ServicerContext) -> pb.PutJobResponse:
        with reaching_postgres():
            quotas = await most_units(self._pool)
            definition = read_definition(request.job, quotas, self._bin_space)
            members = await count_members(self._pool, definition)
            warnings = [] if members >= FEW_MEMBERS else [_few(members)]
            now = self._timekeeper.now()
            created = await put_job(self._pool, definition, json.dumps(definition.quotas), warnings, now)
        return pb.PutJobResponse(status=await self._status(definition.name), created=created)

    async def GetJob(self, request: pb.GetJobRequest, context: ServicerContext) -> pb.GetJobResponse:
        return pb.GetJobResponse(status=await self._status(request.name))

    async def ListJobs(self, request: pb.ListJobsRequest, context: ServicerContext) -> pb.ListJobsResponse:
        size = read_size(request.page_size)
        with reaching_postgres():
            rows = await list_jobs(self._pool, read_token(request.page_token), size + 1)
        token = write_token(rows[size - 1]["name"]) if len(rows) > size else ""
        return pb.ListJobsResponse(jobs=map(job_status_of, rows[:size]), next_page_token=token)

    async def PauseJob(self, request: pb.PauseJobRequest, context: ServicerContext) -> pb.PauseJobResponse:
        reason = read_reason(request.reason)
        await set_state(self._pool, request.name, JobState.PAUSED, reason, self._timekeeper.now())
        return pb.PauseJobResponse(status=await self._status(request.name))

    async def ResumeJob(self, request: pb.ResumeJobRequest, context: ServicerContext) -> pb.ResumeJobResponse:
        await set_state(self._pool, request.name, JobState.ACTIVE, "", self._timekeeper.now())
        return pb.ResumeJobResponse(status=await self._status(request.name))

    async def RunJob(self, request: pb.RunJobRequest, context: ServicerContext) -> pb.RunJobResponse:
        request_id, within = read_request_id(request.request_id), read_within(request.within_seconds)
        run_id = await self._planner.plan_repeat(request.name, request_id, within)
        with reaching_postgres():
            return pb.RunJobResponse(run=run_of(await read_run(self._pool, run_id)))

    async def ForceSync(self, request: pb.ForceSyncRequest, context: ServicerContext) -> pb.ForceSyncResponse:
        request_id, wait_seconds = read_request_id(request.request_id), read_wait(request.wait_seconds)
        (item_id,) = read_items([request.item_id], "item_id")
        run_id = await self._planner.plan_forced(request.job, request_id, item_id)
        return forced_of(
            await wait_for(self._pool, self._timekeeper, self._heard, run_id, item_id, wait_seconds)
        )

    async def CancelRun(self, request: pb.CancelRunRequest, context: ServicerContext) -> pb.CancelRunResponse:
        reason = read_reason(request.reason)
        job = await cancel_run(self._pool, request.run_id, reason, self._timekeeper.now())
        if job is not None:
            self._metrics.runs_ended(job, "cancelled", EndReason.REQUEST)
        with reaching_postgres():
            return pb.CancelRunResponse(run=run_of(await read_run(self._pool, request.run_id)))

    async def ListRuns(self, request: pb.ListRunsRequest, context: ServicerContext) -> pb.ListRunsResponse:
        size, state = read_size(request.page_size), read_run_state(request.state)
        filters = f"{request.job} {state or ''}"
        before = _read_before(request.page_token, filters)
        with reaching_postgres():
            rows = await list_runs(self._pool, request.job, state, before, size + 1)
        token = write_token(str(rows[size - 1]["run_id"]), filters) if len(rows) > size else ""
        return pb.ListRunsResponse(runs=map(run_of, rows[:size]), next_page_token=token)

    async def ListDeadLetters(
        self, request: pb.ListDeadLettersRequest, context: ServicerContext
    ) -> pb.ListDeadLettersResponse:
        size = read_size(request.page_size)
        after = read_token(request.page_token, request.job)
        with reaching_postgres():
            rows = await list_letters(self._pool, request.job, after, size + 1)
        token = write_token(rows[size - 1]["item_id"], request.job) if len(rows) > size else ""
        return pb.ListDeadLettersResponse(dead_letters=map(letter_of, rows[:size]), next_page_token=token)

    async def RetryDeadLetters(
        self, request: pb.RetryDeadLettersRequest, context: ServicerContext
    ) -> pb.RetryDeadLettersResponse:
        request_id, item_ids = read_request_id(request.request_id), read_items(request.item_ids)
        run_id = await self._planner.plan_letters(request.job, request_id, item_ids)
        with reaching_postgres():
            return pb.RetryDeadLettersResponse(run=run_of(await read_run(self._pool, run_id)))

    async def DropDeadLetters(
        self, request: pb.DropDeadLettersRequest, context: ServicerContext
    ) -> pb.DropDeadLettersResponse:
        item_ids = read_items(request.item_ids)
        with reaching_postgres():
            dropped = await drop_letters(self._pool, request.job, item_ids)
        return pb.DropDeadLettersResponse(dropped_count=dropped)

    async def ListWorkers(
        self, request: pb.ListWorkersRequest, context: ServicerContext
    ) -> pb.ListWorkersResponse:
        size, now = read_size(request.page_size), self._timekeeper.now()
        after = read_token(request.page_token)
        with reaching_postgres():
            rows = await list_workers(self._pool, after, size + 1, now, now - _WORKER_SEEN)
        token = write_token(rows[size - 1]["name"]) if len(rows) > size else ""
        return pb.ListWorkersResponse(workers=map(worker_of, rows[:size]), next_page_token=token)

    async def GetCurrentBinNumbers(
        self, request: pb.GetCurrentBinNumbersRequest, context: ServicerContext
    ) -> pb.GetCurrentBinNumbersResponse:
        violations: list[Violation] = []
        cadence = read_cadence(request.cadence, lambda *problem: violations.append(Violation(*problem)))
        if cadence is None:
            raise InvalidRequest(violations)
        at = read_time(request.at_time, "at_time") if request.HasField("at_time") else self._timekeeper.now()
        return pb.GetCurrentBinNumbersResponse(
            bin_numbers=get_current_bin_numbers(cadence, at),
            bin_max=cadence.bin_max,
            logical_time=timestamp(period_start(cadence, at)),
        )

    async def PutQuota(self, request: pb.PutQuotaRequest, context: ServicerContext) -> pb.PutQuotaResponse:
        quota, now = read_quota(request.quota), self._timekeeper.now()
        created = await put_quota(self._pool, quota, now)
        with reaching_postgres():
            (row,), uses = await list_quotas(self._pool, "", 1, now, quota.name)
        return pb.PutQuotaResponse(status=quota_status_of(row, uses, now), created=created)

    async def ListQuotas(
        self, request: pb.ListQuotasRequest, context: ServicerContext
    ) -> pb.ListQuotasResponse:
        size, now = read_size(request.page_size), self._timekeeper.now()
        with reaching_postgres():
            rows, uses = await list_quotas(self._pool, read_token(request.page_token), size + 1, now)
        token = write_token(rows[size - 1]["name"]) if len(rows) > size else ""
        quotas = [quota_status_of(row, uses, now) for row in rows[:size]]
        return pb.ListQuotasResponse(quotas=quotas, next_page_token=token)

    async def _status(self, name: str) -> pb.JobStatus:
        with reaching_postgres():
            row = await read_job(self._pool, name)
        if row is None:
            raise NotFound(f"there is no job {name!r}; `tally jobs list` lists the existing ones")
        return job_status_of(row)


def _few(members: int) -> str:
    return (
        f"the job selects {members} members; below {FEW_MEMBERS:,} bins differ in size by chance, "
        "and a run of all members would do"
    )


def _read_before(token: str, filters: str) -> int | None:
    text = read_token(token, filters)
    if not text:
        return None
    if not text.isdecimal() or len(text) > 18:
        raise InvalidRequest([Violation("page_token", "is no token of this service")])
    return int(text)
