"""Runs: their list, and their end, which a tick finds (R000-12): no slot is open, and no item is to be tried again."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

# Not by the report of the last slot: of two reports at once, each sees the other's slot open.
_END = """
update scheduler.sync_run as run set state = 'done', ended_at = $1
where run_id = any($2) and state in ('planned', 'running')
    and not exists (select from scheduler.sync_slot as slot
        where slot.run_id = run.run_id and slot.state in ('queued', 'leased'))
    and not exists (select from scheduler.sync_state as state
        where state.job_id = run.job_id and state.next_try_at is not null and state.run_id = run.run_id)
returning run_id"""
_ENDED = """
select run_id from scheduler.sync_run as run
where state in ('planned', 'running') and not exists (select from scheduler.sync_slot as slot
    where slot.run_id = run.run_id and slot.state in ('queued', 'leased'))
    and not exists (select from scheduler.sync_state as state
        where state.job_id = run.job_id and state.next_try_at is not null and state.run_id = run.run_id)"""
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


async def end_runs(pool: Any, now: datetime) -> list[int]:
    """End the runs whose slots have all ended; which they were."""
    run_ids = [row["run_id"] for row in await pool.fetch(_ENDED)]
    if not run_ids:
        return []
    return [row["run_id"] for row in await pool.fetch(_END, now, run_ids)]


async def list_runs(pool: Any, job: str, state: str | None, before: int | None, limit: int) -> Sequence[Any]:
    """Runs with what their slots have come to, newest first; `before` is the id that a page begins below."""
    rows: Sequence[Any] = await pool.fetch(_LIST, job, state, before, limit, None)
    return rows


async def read_run(pool: Any, run_id: int) -> Any:
    """One run, as `list_runs` gives them."""
    return await pool.fetchrow(_LIST, "", None, None, 1, run_id)
