"""The loop that looks for due work: jobs to plan, items to try again, runs that have ended, slots for waiting workers.

It sleeps until the next due moment that it knows of, until a wake-up, or for a poll. One statement tells all of it.
"""

import asyncio
import json
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

import structlog

from libs.stores.postgres import AWAY
from services.scheduler.lanes import FORCED, RETRY, SCHEDULED
from services.scheduler.metrics import EndReason, Metrics
from services.scheduler.pace import OVERDUE
from services.scheduler.payments import read_budget
from services.scheduler.planner import Planner
from services.scheduler.retries import gather_retries
from services.scheduler.runs import cancel_slots, end_runs, expire_runs
from services.scheduler.settings import SchedulerSettings
from services.scheduler.timekeeper import Timekeeper
from services.scheduler.wakeups import Bell
from tally.contract.errors import TallyError

_LOGGER = structlog.get_logger(__name__)
T = TypeVar("T")

_AGENDA = """
select job_id, name, quotas, state = 'active' as is_active, next_plan_at, rest_until,
    least((select min(due_at) from scheduler.sync_slot as slot
            where slot.job_id = job.job_id and lane = $1 and slot.state in ('queued', 'leased')
                and due_at >= coalesce((select $4::timestamptz from scheduler.sync_pace as pace
                    where pace.job_id = job.job_id and paced_until > $3), '-infinity'::timestamptz)),
        (select min(due_at) from scheduler.sync_slot as slot
            where slot.job_id = job.job_id and lane = $2 and slot.state in ('queued', 'leased'))) as slot_due_at,
    (select min(due_at) from scheduler.sync_slot as slot
        where slot.job_id = job.job_id and lane = $5 and slot.state in ('queued', 'leased')) as forced_due_at,
    (select paced_until from scheduler.sync_pace as pace where pace.job_id = job.job_id) as paced_until,
    (select min(closes_at + make_interval(hours => (run.definition ->> 'catchup_hours')::integer))
        from scheduler.sync_run as run where run.job_id = job.job_id and run.state in ('planned', 'running')
            and repeat = 0) as expires_at,
    exists (select from scheduler.sync_run as run where run.job_id = job.job_id
        and run.state in ('partial', 'cancelled') and ended_at is null) as has_ending_run,
    (select min(next_try_at) from scheduler.sync_state as state
        where state.job_id = job.job_id and next_try_at is not null) as retry_due_at,
    exists (select from scheduler.sync_run as run where run.job_id = job.job_id and run.state in ('planned', 'running')
        and not exists (select from scheduler.sync_slot as slot
            where slot.run_id = run.run_id and slot.state in ('queued', 'leased'))
        and not exists (select from scheduler.sync_state as state where state.job_id = job.job_id
            and next_try_at is not null and state.run_id = run.run_id)) as has_ended_run
from scheduler.sync_job as job"""

_SHORTEST_SECONDS = 0.01
_PAUSE_AFTER_FAILURE = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Agenda:
    """The work that is due now, and the time of the next look."""

    to_plan: Sequence[tuple[int, str]]
    """jobs, by id and name; first the one that is longest due"""
    has_ended_run: bool
    has_expired_run: bool
    """a run that is to end as partial"""
    has_ending_run: bool
    """a run that was ended before its slots"""
    to_retry: Sequence[tuple[int, str]]
    """jobs with items whose next try is due, by id and name"""
    to_lease: Sequence[Any]
    """jobs with slots that are due, as rows"""
    to_force: Sequence[Any]
    """jobs with forced slots that are due, as rows"""
    next_at: datetime | None
    """when the next of these becomes due"""


def read_agenda(rows: Sequence[Any], now: datetime, poll_at: datetime) -> Agenda:
    """The due times in the rows of the jobs."""
    active = [row for row in rows if row["is_active"]]
    plans = sorted((row["next_plan_at"], row["job_id"], row["name"]) for row in active)
    leases, forced = _lease_times(active, "slot_due_at"), _lease_times(rows, "forced_due_at")
    retries = sorted(
        (row["retry_due_at"], row["job_id"], row["name"]) for row in active if row["retry_due_at"] is not None
    )
    expiries = [row["expires_at"] for row in rows if row["expires_at"] is not None]
    # When overdue slots may be leased again: until then they are not among those that are due.
    paces = [row["paced_until"] for row in active if row["paced_until"] is not None]
    others = [at for at, *_ in [*plans, *retries, *leases, *forced]]
    coming = [at for at in [*others, *expiries, *paces] if at > now]
    return Agenda(
        [(job_id, name) for at, job_id, name in plans if at <= now],
        any(row["has_ended_run"] for row in rows),
        any(at <= now for at in expiries),
        any(row["has_ending_run"] for row in rows),
        [(job_id, name) for at, job_id, name in retries if at <= now],
        [row for at, row in leases if at <= now],
        [row for at, row in forced if at <= now],
        min([*coming, poll_at]),
    )


def _lease_times(rows: Sequence[Any], column: str) -> list[tuple[datetime, Any]]:
    """When the first slot of each job may be leased: it is due, and the job does not rest."""
    return [
        (max(row[column], row["rest_until"] or row[column]), row) for row in rows if row[column] is not None
    ]


class Ticker:
    """Plans, ends runs, and wakes calls that wait for slots, while the process runs."""

    def __init__(
        self,
        pool: Any,
        timekeeper: Timekeeper,
        planner: Planner,
        settings: SchedulerSettings,
        metrics: Metrics,
        heard: Bell,
        due: Bell,
    ) -> None:
        """`heard` rings when any scheduler has changed something; `due` is rung for waiting workers."""
        self._pool = pool
        self._timekeeper = timekeeper
        self._planner = planner
        self._settings = settings
        self._metrics = metrics
        self._heard = heard
        self._due = due
        self._failed: dict[tuple[str, int], datetime] = {}
        """what could not be done for a job, and when it is tried again"""
        self.is_up = False
        """whether the last look succeeded"""

    async def run(self) -> None:
        """Look again and again, over one connection: to hand it back to the pool would be a statement, too."""
        while True:
            try:
                async with self._pool.acquire() as connection:
                    while True:
                        rung = self._heard.count
                        seconds = await self.tick(connection)
                        self.is_up = True
                        await self._heard.wait(rung, seconds)
            except (*AWAY, TallyError) as error:
                _LOGGER.warning("scheduler cannot look for what is due; will retry", error=str(error))
                self.is_up = False
            await asyncio.sleep(self._settings.poll_seconds)

    async def tick(self, connection: Any) -> float:
        """Do what is due, and look for it over this connection or pool; the seconds until the next look."""
        now = self._timekeeper.now()
        poll_at = now + timedelta(seconds=self._settings.poll_seconds)
        rows = await connection.fetch(_AGENDA, SCHEDULED, RETRY, now, now - OVERDUE, FORCED)
        agenda = read_agenda(rows, now, poll_at)
        planned = [await self._plan(job_id, name, now) for job_id, name in agenda.to_plan]
        gathered = [await self._gather(job_id, name, now) for job_id, name in agenda.to_retry]
        if agenda.has_ended_run:
            await self._end_runs(connection, now)
        if agenda.has_expired_run:
            await self._expire_runs(connection, now)
        if agenda.has_expired_run or agenda.has_ending_run:
            await cancel_slots(self._pool, now)
        if agenda.to_lease or agenda.to_force:
            budget = await read_budget(connection, now)
            if any(budget.affords(json.loads(row["quotas"])) for row in agenda.to_lease) or any(
                budget.affords(json.loads(row["quotas"]), forced=True) for row in agenda.to_force
            ):
                self._due.ring()
        if any(planned) or any(gathered):
            self._due.ring()
            return 0.0  # there may be more: a job that was off plans run after run
        seconds = ((agenda.next_at or poll_at) - self._timekeeper.now()).total_seconds()
        return min(max(seconds, _SHORTEST_SECONDS), self._settings.poll_seconds)

    async def _plan(self, job_id: int, name: str, now: datetime) -> bool:
        return await self._attempt(("planned", job_id), name, now, self._planner.plan(job_id)) or False

    async def _gather(self, job_id: int, name: str, now: datetime) -> int:
        gathering = gather_retries(self._pool, job_id, now)
        count = await self._attempt(("gathered for retries", job_id), name, now, gathering) or 0
        if count:
            _LOGGER.info("items are tried again", job=name, items=count)
        return count

    async def _attempt(
        self, what: tuple[str, int], name: str, now: datetime, work: Coroutine[Any, Any, T]
    ) -> T | None:
        """Work for a job; one for which it cannot be done holds up no others, and is left alone for a while."""
        if self._failed.get(what, now) > now:
            work.close()
            return None
        try:
            return await work
        except (*AWAY, TallyError, ValueError) as error:
            self._failed[what] = now + _PAUSE_AFTER_FAILURE
            _LOGGER.error(
                f"job not {what[0]}; will retry",
                job=name,
                error=str(error),
                after_seconds=_PAUSE_AFTER_FAILURE.total_seconds(),
            )
            return None

    async def _end_runs(self, connection: Any, now: datetime) -> None:
        for run in await end_runs(connection, now):
            self._metrics.runs_ended(run.job, "done")
            _LOGGER.info("run ended", run_id=run.run_id, job=run.job)

    async def _expire_runs(self, connection: Any, now: datetime) -> None:
        for run in await expire_runs(connection, now):
            self._metrics.runs_ended(run.job, "partial", EndReason.OUT_OF_TIME)
            _LOGGER.warning(
                "run not finished in time; its queued slots are cancelled", run_id=run.run_id, job=run.job
            )
