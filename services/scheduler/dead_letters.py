"""Dead letters: the items of a job that were given up, listed for an operator."""

from collections.abc import Sequence
from typing import Any

from libs.stores.transactions import transaction
from tally.contract.errors import NotFound

_JOB = "select job_id from scheduler.sync_job where name = $1"
_LIST = """
select item_id, run_id, tries, outcome, detail, created_at, changed_at from scheduler.sync_dead_letter
where job_id = $1 and item_id > $2 order by item_id limit $3"""
_DROP = "delete from scheduler.sync_dead_letter where job_id = $1 and item_id = any($2) returning item_id"
_AMONG = """
select item_id from scheduler.sync_dead_letter where job_id = $1 and item_id = any($2) order by item_id"""


async def list_letters(pool: Any, job: str, after: str, limit: int) -> Sequence[Any]:
    """The letters of a job behind an id. Raises NotFound."""
    job_id = await _find(pool, job)
    rows: Sequence[Any] = await pool.fetch(_LIST, job_id, after, limit)
    return rows


async def drop_letters(pool: Any, job: str, item_ids: Sequence[str]) -> int:
    """Remove letters; how many there were. Raises NotFound."""
    job_id = await _find(pool, job)
    async with transaction(pool) as connection:
        return len(await connection.fetch(_DROP, job_id, list(item_ids)))


async def find_among(connection: Any, job_id: int, item_ids: Sequence[str]) -> list[str]:
    """Those of the items that are dead letters."""
    return [row["item_id"] for row in await connection.fetch(_AMONG, job_id, list(item_ids))]


async def _find(pool: Any, job: str) -> int:
    job_id: int | None = await pool.fetchval(_JOB, job)
    if job_id is None:
        raise NotFound(f"there is no job {job!r}; `tally jobs list` lists the existing ones")
    return job_id
