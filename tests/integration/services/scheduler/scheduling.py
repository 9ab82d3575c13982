"""Schedulers on one database whose time a test turns, and what a worker does with them."""

import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from libs.stores.pool import open_pool
from libs.stores.postgres import PostgresSettings
from libs.telemetry.setup import OFF
from services.scheduler.app import Parts, build
from services.scheduler.definition import Definition
from services.scheduler.job_rows import put_job
from services.scheduler.leases import Ask, Lease
from services.scheduler.members import PLANNER_SETTINGS, Member
from services.scheduler.membership import VIDEOS, put_members
from services.scheduler.outcomes import ItemOutcome, Outcome
from services.scheduler.quota_rows import QuotaDefinition, put_quota
from services.scheduler.reports import Answer, Report
from services.scheduler.settings import SchedulerSettings
from services.scheduler.timekeeper import Timekeeper

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
"""A Monday, at midnight."""
DAY = timedelta(days=1)
JOB = Definition(
    name="daily_sync",
    rationale="a test",
    sla_hours=48,
    population="youtube_video",
    where={},
    handler="metadata",
    preset="daily",
    period_hours=24,
    bin_max=1,
    offsets=(0,),
    phase=0,
    start_minutes=540,
    length_minutes=480,
    batch=5,
    slot_size=10,
    batch_seconds=20,
    quotas={},
    catchup_hours=48,
    allow_skew=False,
)


class TurnedClock:
    """Stands still until a test moves it; both of its times come from there."""

    def __init__(self, at: datetime = MONDAY) -> None:
        self.at = at

    def monotonic(self) -> float:
        return self.at.timestamp()

    def now_us(self) -> int:
        return (self.at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)

    def move(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@dataclass(frozen=True, slots=True)
class Scene:
    """Some schedulers, their clock, and a look into their database."""

    schedulers: Sequence[Parts]
    clock: TurnedClock
    pool: Any
    numbers: dict[str, int] = field(default_factory=dict)

    @property
    def one(self) -> Parts:
        return self.schedulers[0]

    async def put_videos(self, count: int, prefix: str = "v", **columns: bool) -> list[str]:
        ids = [f"{prefix}{number:06}" for number in range(count)]
        flags = columns.get("is_oon"), columns.get("has_label_association")
        rows = [(youtube_id, None, None, *flags) for youtube_id in ids]
        await put_members(self.pool, VIDEOS, rows, self.clock.at)
        return ids

    async def put_job(self, **changes: Any) -> int:
        """Store a job; its id."""
        definition = JOB.model_copy(update=changes)
        await put_job(self.pool, definition, json.dumps(definition.quotas), [], self.clock.at)
        job_id: int = await self.pool.fetchval(
            "select job_id from scheduler.sync_job where name = $1", definition.name
        )
        return job_id

    async def put_quota(self, units: int, name: str = "youtube_units", protected_percent: int = 0) -> None:
        quota = QuotaDefinition(name, units, "America/Los_Angeles", protected_percent, 10.0)
        await put_quota(self.pool, quota, self.clock.at)

    async def plan(self, **changes: Any) -> int:
        """Store a job and plan its next run; the run's id."""
        job_id = await self.put_job(**changes)
        await self.plan_next(job_id)
        run_id: int = await self.pool.fetchval(
            "select max(run_id) from scheduler.sync_run where job_id = $1", job_id
        )
        return run_id

    async def plan_next(self, job_id: int) -> None:
        """Turn the clock to the job's next window, and plan its run."""
        self.clock.at = await self.pool.fetchval(
            "select next_plan_at from scheduler.sync_job where job_id = $1", job_id
        )
        assert await self.one.planner.plan(job_id)

    def to_the_end_of_the_window(self) -> None:
        """All slots are due."""
        self.clock.move(JOB.length.total_seconds())

    async def lease(
        self, worker: str = "w", number: int | None = None, scheduler: int = 0, columns: Sequence[str] = ()
    ) -> Lease | None:
        """Ask for a slot, without waiting, under the next number unless one is given."""
        if number is None:
            number = self.numbers[worker] = self.numbers.get(worker, 0) + 1
        ask = Ask(worker, number, {"metadata": columns})
        return await self.schedulers[scheduler].leases.lease(ask, 0)

    async def must_lease(self, worker: str = "w", number: int | None = None, scheduler: int = 0) -> Lease:
        lease = await self.lease(worker, number, scheduler)
        assert lease is not None
        return lease

    async def report(
        self,
        lease: Lease,
        batch: int = 0,
        outcome: Outcome = Outcome.SYNCED,
        scheduler: int = 0,
        is_last: bool = False,
    ) -> Answer:
        """Report a batch of a lease, each item with the same outcome, in any order."""
        items = [ItemOutcome(member.key.youtube_id, outcome) for member in lease.batches[batch]]
        random.shuffle(items)
        report = Report(lease.slot.id, lease.token, begin_key(lease, batch), items, is_last)
        return await self.schedulers[scheduler].reports.report(report)

    async def work_off(self, worker: str = "w") -> int:
        """Lease and report until nothing is due; how many leases there were."""
        count = 0
        while (lease := await self.lease(worker)) is not None:
            count += 1
            for batch in range(len(lease.batches)):
                answer = await self.report(lease, batch)
                if answer.permit is None:
                    break
        return count

    async def used(self, name: str = "youtube_units") -> dict[str, int]:
        """What was paid of a quota, by day."""
        rows = await self.pool.fetch("select day, used from scheduler.quota_use where quota = $1", name)
        return {row["day"].isoformat(): row["used"] for row in rows if row["used"]}

    async def attempts(self, run_id: int) -> list[str]:
        """The items with an outcome in a run."""
        rows = await self.pool.fetch(
            "select item_id from scheduler.sync_attempt where run_id = $1 order by item_id", run_id
        )
        return [row["item_id"] for row in rows]

    async def slots(self, run_id: int) -> Sequence[Any]:
        rows: Sequence[Any] = await self.pool.fetch(
            "select * from scheduler.sync_slot where run_id = $1 order by number", run_id
        )
        return rows

    async def run_state(self, run_id: int) -> str:
        state: str = await self.pool.fetchval(
            "select state from scheduler.sync_run where run_id = $1", run_id
        )
        return state


def begin_key(lease: Lease, batch: int) -> str:
    """Where a batch of a lease begins."""
    return str(lease.slot.next if batch == 0 else lease.batches[batch - 1][-1].key)


def ids_of(batches: Sequence[Sequence[Member]]) -> list[str]:
    return [member.key.youtube_id for batch in batches for member in batch]


@asynccontextmanager
async def open_scene(dsn: str, schedulers: int = 1, **settings: Any) -> AsyncIterator[Scene]:
    """Schedulers whose loops do not run: a test does what they would do, when it wants.

    Overdue slots are leased at once, unless the settings have a rate.
    """
    settings = {"catchup_rate": 0, **settings}
    clock = TurnedClock()
    async with AsyncExitStack() as stack:
        pools = [
            await stack.enter_async_context(
                open_pool(
                    dsn, PostgresSettings(), f"test scheduler {number}", server_settings=PLANNER_SETTINGS
                )
            )
            for number in range(schedulers)
        ]
        parts = [
            build(pool, pool, Timekeeper(clock, pool, 0.05), SchedulerSettings(**settings), OFF)
            for pool in pools
        ]
        yield Scene(parts, clock, pools[0])
