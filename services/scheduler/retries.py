"""Retries: items whose next try is due are gathered into slots, so that they share calls.

A try belongs to the run in which the item failed, and the run does not end before its last try. An item that a newer
run has met since has its next try there.
"""

import itertools
from datetime import datetime
from typing import Any

from libs.stores.transactions import transaction
from services.scheduler.definition import Definition
from services.scheduler.lanes import RETRY
from services.scheduler.members import FIRST, LAST
from services.scheduler.wakeups import notify

_LOCK_JOB = "select job_id from scheduler.sync_job where job_id = $1 for update skip locked"
_DUE = """
select item_id, run_id, next_try from scheduler.sync_state
where job_id = $1 and next_try_at <= $2
order by next_try_at limit $3 for no key update skip locked"""
_TAKEN = "update scheduler.sync_state set next_try_at = null where job_id = $1 and item_id = any($2)"
_RUN = """
select definition, coalesce((select max(number) from scheduler.sync_slot as slot where slot.run_id = run.run_id), 0)
    as last_number
from scheduler.sync_run as run where run_id = $1 and state in ('planned', 'running') for no key update of run"""
_SLOT = f"""
insert into scheduler.sync_slot (run_id, number, job_id, lane, due_at, planned_at, members, lower_bin, lower_id,
    upper_bin, upper_id, next_bin, next_id, try, item_ids)
values ($1, $2, $3, $7, $4, $4, cardinality($6::text[]), {FIRST.sync_bin}, '', {LAST.sync_bin}, '',
    {FIRST.sync_bin}, '', $5, $6)"""

_MOST_AT_ONCE = 5_000


async def gather_retries(pool: Any, job_id: int, now: datetime) -> int:
    """Write the slots for the items of a job that are due; how many items. None if another scheduler is at it."""
    async with transaction(pool) as connection:
        if await connection.fetchval(_LOCK_JOB, job_id) is None:
            return 0
        rows = await connection.fetch(_DUE, job_id, now, _MOST_AT_ONCE)
        if not rows:
            return 0
        tries = sorted((row["run_id"], row["next_try"], row["item_id"]) for row in rows)
        for (run_id, try_number), items in itertools.groupby(tries, lambda each: each[:2]):
            await _write(connection, job_id, run_id, try_number, [item for *_, item in items], now)
        await connection.execute(_TAKEN, job_id, [row["item_id"] for row in rows])
        await notify(connection)
    return len(rows)


async def _write(
    connection: Any, job_id: int, run_id: int, try_number: int, items: list[str], now: datetime
) -> None:
    """The slots of one run and try; none when the run has been ended otherwise."""
    run = await connection.fetchrow(_RUN, run_id)
    if run is None:
        return
    size = Definition.model_validate_json(run["definition"]).slot_size
    first = run["last_number"] + 1
    await write_slots(connection, (job_id, run_id, try_number), items, size, first, now)


async def write_slots(
    connection: Any,
    place: tuple[int, int, int],
    items: list[str],
    size: int,
    first: int,
    now: datetime,
    lane: int = RETRY,
) -> int:
    """Slots of items, numbered from `first` on, all due; how many. `place`: job, run and try."""
    job_id, run_id, try_number = place
    starts = range(0, len(items), size)
    for number, start in enumerate(starts, start=first):
        await connection.execute(
            _SLOT, run_id, number, job_id, now, try_number, items[start : start + size], lane
        )
    return len(starts)
