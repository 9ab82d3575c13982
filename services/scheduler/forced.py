"""Forced syncs: what has become of one, and the wait for its outcome."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from libs.stores.postgres import reaching_postgres
from services.scheduler.lanes import FORCED
from services.scheduler.outcomes import Outcome
from services.scheduler.timekeeper import Timekeeper
from services.scheduler.wakeups import Bell

# A request that joined a sync in progress has no run of its own.
_READ = f"""
select slot.state, slot.due_at, job.rest_until, attempt.outcome, attempt.detail
from scheduler.sync_slot as slot join scheduler.sync_run as run using (run_id)
    join scheduler.sync_job as job on job.job_id = slot.job_id
    left join scheduler.sync_attempt as attempt on attempt.run_id = slot.run_id and attempt.item_id = $2
        and attempt.try = 0 and attempt.run_day = run.run_day
where slot.run_id = $1 and slot.lane = {FORCED}"""

_POLL_SECONDS = 1.0


class ForcedState(StrEnum):
    """What has become of a forced sync."""

    QUEUED = "queued"
    LEASED = "leased"
    DONE = "done"
    DROPPED = "dropped"
    """it ended without an outcome"""


@dataclass(frozen=True, slots=True)
class Forced:
    """A forced sync."""

    run_id: int
    state: ForcedState
    outcome: Outcome | None = None
    detail: str = ""
    due_at: datetime | None = None
    """of a queued one that cannot be leased yet"""

    @property
    def has_ended(self) -> bool:
        """Whether nothing is left to wait for."""
        return self.state in (ForcedState.DONE, ForcedState.DROPPED)


async def read_forced(pool: Any, run_id: int, item_id: str, now: datetime) -> Forced:
    """What has become of the forced sync that is this run."""
    row = await pool.fetchrow(_READ, run_id, item_id)
    if row is None:
        return Forced(run_id, ForcedState.DROPPED)
    if row["outcome"] is not None:
        return Forced(run_id, ForcedState.DONE, Outcome(row["outcome"]), row["detail"])
    if row["state"] in ("done", "cancelled"):
        return Forced(run_id, ForcedState.DROPPED)
    due_at = max(row["due_at"], row["rest_until"] or row["due_at"])
    if row["state"] == "leased" and row["due_at"] > now:
        return Forced(run_id, ForcedState.LEASED)
    return Forced(run_id, ForcedState.QUEUED, due_at=due_at if due_at > now else None)


async def wait_for(
    pool: Any, timekeeper: Timekeeper, heard: Bell, run_id: int, item_id: str, wait_seconds: float
) -> Forced:
    """The forced sync when it has ended, or as it is after so long. `heard` rings when its outcome is recorded."""
    deadline = timekeeper.monotonic() + wait_seconds
    while True:
        rung = heard.count
        with reaching_postgres():
            forced = await read_forced(pool, run_id, item_id, timekeeper.now())
        remaining = deadline - timekeeper.monotonic()
        if forced.has_ended or remaining <= 0:
            return forced
        await heard.wait(rung, min(remaining, _POLL_SECONDS))
