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
from services.scheduler.lanes import RETRY, SCHEDULED
from services.scheduler.payments import read_budget
from services.scheduler.planner import Planner
from services.scheduler.retries import gather_retries
from services.scheduler.runs import end_runs
from services.scheduler.settings import SchedulerSettings
from services.scheduler.timekeeper import Timekeeper
from services.scheduler.wakeups import Bell
from tally.contract.errors import TallyError

_LOGGER = structlog.get_logger(__name__)
T = TypeVar("T")

_AGENDA = """
select job_id, name, quotas, state = 'active' as is_active, next_plan_at, rest_until,
    least((select min(due_at) from scheduler.sync_slot as slot
            where slot.job_id = job.job_id and lane = $1 and slot.state in ('queued', 'leased')),
        (select min(due_at) from scheduler.sync_slot as slot
            where slot.job_id = job.job_id and lane = $2 and slot.state in ('queued', 'leased'))) as slot_due_at,
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
    to_retry: Sequence[tuple[int, str]]
    """jobs with items whose next try is due, by id and name"""
    to_lease: Sequence[Any]
    """jobs with slots that are due, as rows"""
    next_at: datetime | None
    """when the next of these becomes due"""


def read_agenda(rows: Sequence[Any], now: datetime, poll_at: datetime) -> Agenda:
    """The due times in the rows of the jobs."""
    active = [row for row in rows if row["is_active"]]
    plans = sorted((row["next_plan_at"], row["job_id"], row["name"]) for row in active)
    leases = [
        (max(row["slot_due_at"], row["rest_until"] or row["slot_due_at"]), row)
        for row in active
        if row["slot_due_at"] is not None
    ]
    retries = sorted(
        (row["retry_due_at"], row["job_id"], row["name"]) for row in active if row["retry_due_at"] is not None
    )
    coming = [at for at, *_ in [*plans, *retries, *leases] if at > now]
    return Agenda(
        [(job_id, name) for at, job_id, name in plans if at <= now],
        any(row["has_ended_run"] for row in rows),
        [(job_id, name) for at, job_id, name in retries if at <= now],
        [row for at, row in leases if at <= now],
        min([*coming, poll_at]),
    )


class Ticker:
    """Plans, ends runs, and wakes calls that wait for slots, while the process runs."""

    def __init__(
        self,
        pool: Any,
        timekeeper: Timekeeper,
        planner: Planner,
        settings: SchedulerSettings,
        heard: Bell,
        due: Bell,
    ) -> None:
        """`heard` rings when any scheduler has changed something; `due` is rung for waiting workers."""
        self._pool = pool
        self._timekeeper = timekeeper
        self._planner = planner
        self._settings = settings
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
        agenda = read_agenda(await connection.fetch(_AGENDA, SCHEDULED, RETRY), now, poll_at)
        planned = [await self._plan(job_id, name, now) for job_id, name in agenda.to_plan]
        gathered = [await self._gather(job_id, name, now) for job_id, name in agenda.to_retry]
        if agenda.has_ended_run:
            await self._end_runs(connection, now)
        if agenda.to_lease:
            budget = await read_budget(connection, now)
            if any(budget.affords(json.loads(row["quotas"])) for row in agenda.to_lease):
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
        for run_id in await end_runs(connection, now):
            _LOGGER.info("run ended", run_id=run_id)
