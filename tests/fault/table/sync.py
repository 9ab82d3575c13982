"""A run over a population while a round goes on, and the verdict on it.

The api is the simulator's: it keeps count of the calls by itself. Each round has a job, a quota and a run of its own,
over the same members, whose views at the api change before each run.
"""

import math
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import asyncpg

from loadtests.youtube.simulator import Simulator
from loadtests.youtube.videos import Video
from tally.client import Client
from tally.client.scheduler import Job, Period, Quota
from tally.client.scheduler import Video as Member
from tests.fault.table.patience import until_done
from tests.support.eventually import eventually
from tests.support.proof import shorten
from tests.support.reach import open_client

MEMBERS = [f"sync-{number:04}" for number in range(800)]
BATCH, SLOT_SIZE = 20, 100
NEEDED_UNITS = math.ceil(len(MEMBERS) / BATCH)
"""calls of a run in which none is repeated: every slot is a multiple of a batch"""
_SPARE_UNITS = 20
PROTECTED_PERCENT = 10
_PERIOD_HOURS = 24 * 28
_PAUSE_SECONDS = 0.1
_SETTLED_SECONDS = 60.0
_CALLING_SECONDS = 30.0

_STATE = "select state from scheduler.sync_run where run_id = $1"
_ATTEMPTS = "select item_id, outcome from scheduler.sync_attempt where run_id = $1"
_VIDEOS = "select youtube_id, title, view_count from scheduler.youtube_video where youtube_id = any($1)"
_OPEN_SLOTS = "select count(*) from scheduler.sync_slot where run_id = $1 and state <> 'done'"
_QUOTA = """
select day, used, forced, limit_units - protected_units as allowed
from scheduler.quota_use as use join scheduler.quota as quota on quota.name = use.quota where quota.name = $1"""
_DONE = (1, 2)
"""synced, unchanged"""

T = TypeVar("T")


def make_video(member: str) -> Video:
    """A member as the api knows it."""
    return Video(member, f"title of {member}", "UC_simulated_channel")


@dataclass(slots=True)
class SyncRun:
    """The run of a round."""

    name: str
    """of its job and its quota"""
    dsn: str
    client: Client
    api: Simulator
    chance: random.Random
    allowed_repeats: int = 0
    """batches that may be called again: those that were in progress in a worker that died or froze"""
    failures: Counter[str] = field(default_factory=Counter)
    run_id: int = 0
    calls_before: int = 0

    @property
    def calls(self) -> int:
        """The calls that the api has received for this run."""
        return self.api.calls - self.calls_before

    async def start(self) -> None:
        """Put the members, the quota and the job, and ask for a run of all of them, all due at once."""
        for member in self.chance.sample(MEMBERS, len(MEMBERS) // 2):
            self.api.catalog.view(member, self.chance.randrange(1, 1_000))
        scheduler, self.calls_before = self.client.scheduler, self.api.calls
        quota = Quota(
            name=self.name,
            units_per_day=NEEDED_UNITS + _SPARE_UNITS,
            zone="America/Los_Angeles",
            protected_percent=PROTECTED_PERCENT,
        )
        job = Job(
            name=self.name,
            rationale="a round of the fault table",
            sla_hours=2 * _PERIOD_HOURS,
            population="youtube_video",
            handler="metadata",
            cadence=Period(_PERIOD_HOURS, 1, (0,)),  # its own runs are far away
            batch=BATCH,
            slot_size=SLOT_SIZE,
            quotas={self.name: 1},
        )
        await self._until_done(lambda: scheduler.put_videos([Member(each) for each in MEMBERS]))
        await self._until_done(partial(scheduler.put_quota, quota))
        await self._until_done(partial(scheduler.put_job, job))
        request_id = str(uuid.uuid4())
        run = await self._until_done(
            partial(scheduler.run_job, self.name, request_id=request_id, timeout=10.0)
        )
        self.run_id = run.id

    async def until_calling(self) -> None:
        """Wait for a moment at which a call waits for its answer."""

        async def is_calling() -> bool:
            return self.api.in_flight > 0 and self.calls > 0

        await eventually(is_calling, _CALLING_SECONDS)

    async def until_done(self, within_seconds: float) -> bool:
        """Whether the run has ended within this time, whatever becomes of Postgres meanwhile."""

        async def is_done() -> bool:
            try:
                connection = await asyncpg.connect(self.dsn, timeout=5, command_timeout=5)
            except (OSError, TimeoutError, asyncpg.PostgresError):
                return False
            try:
                return bool(await connection.fetchval(_STATE, self.run_id) == "done")
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                return False
            finally:
                connection.terminate()

        try:
            await eventually(is_done, within_seconds)
        except AssertionError:
            return False
        return True

    async def check(self) -> list[str]:
        """Every sentence is a thing that is wrong with the run."""
        connection = await asyncpg.connect(self.dsn)
        try:
            return (
                await self.check_outcomes(connection)
                + await self.check_members(connection)
                + await self.check_payments(connection)
            )
        finally:
            await connection.close()

    async def check_outcomes(self, connection: asyncpg.Connection) -> list[str]:
        """Each member has one outcome for the run, and it is a success; every slot has ended."""
        rows = await connection.fetch(_ATTEMPTS, self.run_id)
        recorded = Counter(row["item_id"] for row in rows)
        wrong = [
            f"{member} has {recorded[member]} outcomes in run {self.run_id}, not 1"
            for member in sorted(recorded.keys() | set(MEMBERS))
            if recorded[member] != (1 if member in set(MEMBERS) else 0)
        ]
        wrong += [
            f"{row['item_id']} has outcome {row['outcome']} in run {self.run_id}, and the api knows it"
            for row in rows
            if row["outcome"] not in _DONE
        ]
        if unfinished := await connection.fetchval(_OPEN_SLOTS, self.run_id):
            wrong.append(f"{unfinished} slots of run {self.run_id} are not done")
        return shorten(wrong)

    async def check_members(self, connection: asyncpg.Connection) -> list[str]:
        """Each member is stored as the api knows it."""
        stored = {row["youtube_id"]: row for row in await connection.fetch(_VIDEOS, MEMBERS)}
        wrong = []
        for member in MEMBERS:
            found, row = self.api.catalog.find(member), stored.get(member)
            assert found is not None
            expected = found["snippet"]["title"], int(found["statistics"]["viewCount"])
            if row is None or (row["title"], row["view_count"]) != expected:
                wrong.append(f"{member} is stored as {row and dict(row)}, and the api has {expected}")
        return shorten(wrong)

    async def check_payments(self, connection: asyncpg.Connection) -> list[str]:
        """Never an unpaid call, never more than the quota has for this work, and few calls that were repeated."""
        days = await connection.fetch(_QUOTA, self.name)
        wrong = [
            f"quota {self.name} of {row['day']}: {row['used']} units were paid of {row['allowed']}, {row['forced']} "
            "by forced work"
            for row in days
            if row["used"] > row["allowed"] or row["forced"]
        ]
        paid = sum(row["used"] for row in days)
        if self.calls > paid:
            wrong.append(f"the api received {self.calls} calls, and {paid} units were paid")
        if not NEEDED_UNITS <= self.calls <= NEEDED_UNITS + self.allowed_repeats:
            wrong.append(
                f"the api received {self.calls} calls; {NEEDED_UNITS} are needed, and {self.allowed_repeats} may be "
                "repeated"
            )
        return wrong

    async def _until_done(self, work: Callable[[], Awaitable[T]]) -> T:
        return await until_done(work, _SETTLED_SECONDS, self.failures)


@asynccontextmanager
async def open_run(
    name: str, dsn: str, door: str, api: Simulator, chance: random.Random
) -> AsyncIterator[SyncRun]:
    """A run that has begun."""
    async with open_client(door, timeout=10.0) as client:
        run = SyncRun(name, dsn, client, api, chance)
        await run.start()
        await run.until_calling()
        yield run
