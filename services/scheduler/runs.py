"""Runs: their list, and their end, which a tick finds (R000-12).

A run is done when no slot is open and no item is to be tried again. One that is not done `catchup_hours` after its
window closed is partial: its queued slots are cancelled, and a batch under way is still recorded. A run that was asked
for has no such limit.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from libs.stores.postgres import reaching_postgres
from libs.stores.transactions import transaction
from tally.contract.errors import NotFound, RunEnded

# Not by the report of the last slot: of two reports at once, each sees the other's slot open.
_END = """
update scheduler.sync_run as run set state = 'done', ended_at = $1
where run_id = any($2) and state in ('planned', 'running')
    and not exists (select from scheduler.sync_slot as slot
        where slot.run_id = run.run_id and slot.state in ('queued', 'leased'))
    and not exists (select from scheduler.sync_state as state
        where state.job_id = run.job_id and state.next_try_at is not null and state.run_id = run.run_id)
returning run_id, (select name from scheduler.sync_job as job where job.job_id = run.job_id) as job"""
_ENDED = """
select run_id from scheduler.sync_run as run
where state in ('planned', 'running') and not exists (select from scheduler.sync_slot as slot
    where slot.run_id = run.run_id and slot.state in ('queued', 'leased'))
    and not exists (select from scheduler.sync_state as state
        where state.job_id = run.job_id and state.next_try_at is not null and state.run_id = run.run_id)"""
_PARTIAL = """
update scheduler.sync_run as run set state = 'partial',
    reason = 'not finished ' || (definition ->> 'catchup_hours') || ' h after its window closed'
where run_id = any(array(select run_id from scheduler.sync_run where state in ('planned', 'running') and repeat = 0
        and closes_at + make_interval(hours => (definition ->> 'catchup_hours')::integer) <= $1
    order by run_id for no key update skip locked))
returning run_id, (select name from scheduler.sync_job as job where job.job_id = run.job_id) as job"""
_CANCEL_RUN = """
update scheduler.sync_run as run set state = 'cancelled', reason = $2
where run_id = $1 and state in ('planned', 'running')
returning (select name from scheduler.sync_job as job where job.job_id = run.job_id)"""
_ENDING = """
select run_id from scheduler.sync_run where state in ('partial', 'cancelled') and ended_at is null
order by run_id for no key update skip locked"""
# A lease in force is left: its batch is recorded, and then its slot is queued, which a later tick finds.
_CANCEL = """
update scheduler.sync_slot as slot set state = 'cancelled', ended_at = $1
from (select run_id, number from scheduler.sync_slot
    where run_id = any($2) and (state = 'queued' or (state = 'leased' and due_at <= $1))
    order by run_id, number for no key update skip locked) as open
where slot.run_id = open.run_id and slot.number = open.number"""
_UNREACHED = """
update scheduler.sync_run as run set unreached = slots.unreached,
    ended_at = case when slots.are_open then null else $1::timestamptz end
from (select run_id,
        coalesce(sum(greatest(0, members - synced - unchanged - gone - retry - failed))
            filter (where state = 'cancelled' and item_ids is null), 0) as unreached,
        bool_or(state in ('queued', 'leased')) as are_open
    from scheduler.sync_slot where run_id = any($2) group by run_id) as slots
where run.run_id = slots.run_id"""
_LIST = """
select run.*, job.name as job, done_slots, synced, unchanged, gone, retry, failed
from scheduler.sync_run as run join scheduler.sync_job as job using (job_id) cross join lateral (
    select count(*) filter (where slot.state = 'done') as done_slots, coalesce(sum(synced), 0)::bigint as synced,
        coalesce(sum(unchanged), 0)::bigint as unchanged, coalesce(sum(gone), 0)::bigint as gone,
        coalesce(sum(retry), 0)::bigint as retry, coalesce(sum(failed), 0)::bigint as failed
    from scheduler.sync_slot as slot where slot.run_id = run.run_id
) as slots
where ($1 = '' or job.name = $1) and ($2::text is null or run.state = $2)
    and ($3::bigint is null or run.run_id < $3) and ($5::bigint is null or run.run_id = $5)
order by run.run_id desc limit $4"""


class Ended(NamedTuple):
    """A run that has ended."""

    run_id: int
    job: str


async def end_runs(pool: Any, now: datetime) -> list[Ended]:
    """End the runs whose slots have all ended; which they were."""
    run_ids = [row["run_id"] for row in await pool.fetch(_ENDED)]
    if not run_ids:
        return []
    return [Ended(row["run_id"], row["job"]) for row in await pool.fetch(_END, now, run_ids)]


async def expire_runs(pool: Any, now: datetime) -> list[Ended]:
    """Make those runs partial whose time is over; which they are."""
    return [Ended(row["run_id"], row["job"]) for row in await pool.fetch(_PARTIAL, now)]


async def cancel_run(pool: Any, run_id: int, reason: str, now: datetime) -> str | None:
    """Cancel a run; the name of its job, or None if it was cancelled before.

    Raises NotFound, and RunEnded when it has ended otherwise.
    """
    with reaching_postgres():
        job: str | None = await pool.fetchval(_CANCEL_RUN, run_id, reason)
        run = None if job is not None else await read_run(pool, run_id)
    if job is None:
        if run is None:
            raise NotFound(f"there is no run {run_id}; `tally jobs runs` lists the existing ones")
        if run["state"] != "cancelled":
            raise RunEnded(f"run {run_id} is {run['state']}: only a run that has not ended can be cancelled")
        return None
    await cancel_slots(pool, now)
    return job


async def cancel_slots(pool: Any, now: datetime) -> None:
    """Cancel the open slots of runs that were ended before their slots, but for leases that are in force."""
    async with transaction(pool) as connection:
        run_ids = [row["run_id"] for row in await connection.fetch(_ENDING)]
        if run_ids:
            await connection.execute(_CANCEL, now, run_ids)
            await connection.execute(_UNREACHED, now, run_ids)


async def list_runs(pool: Any, job: str, state: str | None, before: int | None, limit: int) -> Sequence[Any]:
    """Runs with what their slots have come to, newest first; `before` is the id that a page begins below."""
    rows: Sequence[Any] = await pool.fetch(_LIST, job, state, before, limit, None)
    return rows


async def read_run(pool: Any, run_id: int) -> Any:
    """One run, as `list_runs` gives them."""
    return await pool.fetchrow(_LIST, "", None, None, 1, run_id)
