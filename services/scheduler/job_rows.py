"""The rows of jobs and of workers."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from libs.stores.transactions import transaction
from services.scheduler.definition import Definition
from services.scheduler.populations import POPULATIONS
from services.scheduler.wakeups import notify
from tally.contract.errors import InvalidRequest, NotFound, Violation

_LOCK = "select job_id, definition, next_logical_at from scheduler.sync_job where name = $1 for update"
_INSERT = """
insert into scheduler.sync_job (name, population, definition, quotas, warnings, next_logical_at, next_plan_at,
    created_at, changed_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $8)
on conflict (name) do nothing
returning job_id"""
_UPDATE = """
update scheduler.sync_job set definition = $2, quotas = $3, warnings = $4, next_logical_at = $5, next_plan_at = $6,
    changed_at = $7
where job_id = $1"""
_SET_STATE = """
update scheduler.sync_job set state = $2, reason = $3,
    changed_at = case when state = $2 and reason = $3 then changed_at else $4 end
where name = $1 returning job_id"""
_COUNT = "select count(*) from {table} where {condition}"
_LIST = """
select job.*, (select count(*) from scheduler.sync_run as run
    where run.job_id = job.job_id and run.state in ('planned', 'running')) as open_runs
from scheduler.sync_job as job where name > $1 and ($3::text is null or name = $3) order by name limit $2"""
_WORKERS = """
select worker.*, coalesce(held, 0) as leases
from scheduler.sync_worker as worker left join (
    select worker as name, count(*) as held from scheduler.sync_slot
    where state = 'leased' and due_at > $1 group by worker
) as lease using (name)
where name > $2 and (asked_at > $3 or held is not null) order by name limit $4"""


class JobState(StrEnum):
    """Whether a job is planned and dispatched."""

    ACTIVE = "active"
    PAUSED = "paused"


async def put_job(
    pool: Any, definition: Definition, quotas: str, warnings: Sequence[str], now: datetime
) -> bool:
    """Store a definition, from the next run on; whether the job is new.

    Its next period stays what it is, unless cadence or window change: then it is the first whose window opens from now
    on. Raises InvalidRequest when the job has another population.
    """
    text = definition.model_dump_json()
    first = definition.first_period(now)
    async with transaction(pool) as connection:
        created = await connection.fetchval(
            _INSERT,
            definition.name,
            definition.population,
            text,
            quotas,
            list(warnings),
            first,
            definition.opens_at(first),
            now,
        )
        if created is None:
            row = await connection.fetchrow(_LOCK, definition.name)
            before = Definition.model_validate_json(row["definition"])
            if before.population != definition.population:
                raise InvalidRequest(
                    [
                        Violation(
                            "job.population",
                            f"is {before.population} for this job and cannot be changed; use another name",
                        )
                    ]
                )
            if _rhythm(before) == _rhythm(definition):
                first = row["next_logical_at"]
            await connection.execute(
                _UPDATE,
                row["job_id"],
                text,
                quotas,
                list(warnings),
                first,
                definition.opens_at(first),
                now,
            )
        await notify(connection)
    return created is not None


async def set_state(pool: Any, name: str, state: JobState, reason: str, now: datetime) -> None:
    """Pause or resume a job. Raises NotFound."""
    async with transaction(pool) as connection:
        if await connection.fetchval(_SET_STATE, name, state, reason, now) is None:
            raise NotFound(f"there is no job {name!r}; `tally jobs list` lists the existing ones")
        await notify(connection)


async def count_members(pool: Any, definition: Definition) -> int:
    """How many members the job selects, over all bins."""
    population = POPULATIONS[definition.population]
    count: int = await pool.fetchval(
        _COUNT.format(table=population.table, condition=population.condition(definition.where))
    )
    return count


async def list_jobs(pool: Any, after: str, limit: int) -> Sequence[Any]:
    """Jobs by name, from the one after `after` on."""
    rows: Sequence[Any] = await pool.fetch(_LIST, after, limit, None)
    return rows


async def read_job(pool: Any, name: str) -> Any:
    """One job as `list_jobs` gives them, or None."""
    return await pool.fetchrow(_LIST, "", 1, name)


async def list_workers(pool: Any, after: str, limit: int, now: datetime, since: datetime) -> Sequence[Any]:
    """Workers by name that have asked since then, or hold a lease."""
    rows: Sequence[Any] = await pool.fetch(_WORKERS, now, after, since, limit)
    return rows


def _rhythm(definition: Definition) -> tuple[object, ...]:
    return definition.cadence, definition.start_minutes, definition.length_minutes
