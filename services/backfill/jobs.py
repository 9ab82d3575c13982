"""Jobs: the requested accounts, and their progress.

A job is created from a stream of DIDs. Until the stream has ended its accounts belong to no job; the same id then
starts again. A job whose stream had ended is resumed by the same stream, and by no other.
"""

import hashlib
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from libs.dataset.rows import bucket_of
from libs.stores.postgres import reaching_postgres
from libs.stores.transactions import transaction
from tally.contract.errors import InvalidRequest, NotFound, Unavailable, Violation

_CREATE = """
insert into backfill.job (job_id, batch_size) values ($1, $2) on conflict (job_id) do nothing"""
_DIGEST = "select digest from backfill.job where job_id = $1"
_LOCK = "select digest from backfill.job where job_id = $1 for update"
_BEGIN = "update backfill.job set stream = $2 where job_id = $1"
_STREAM = "select stream from backfill.job where job_id = $1 for key share"
_CLEAR = "delete from backfill.job_repo where job_id = $1"
_ADD = """
insert into backfill.job_repo (job_id, did) select $1, did from unnest($2::text[]) as item (did)
on conflict do nothing"""
_ADD_REPOS = """
insert into backfill.repo (did, bucket) select did, bucket from unnest($1::text[], $2::smallint[]) as item (did, bucket)
order by did on conflict (did) do nothing"""
_DIDS = "select did from backfill.job_repo where job_id = $1 and did > $2 order by did limit $3"
_SEAL = "update backfill.job set digest = $2, batch_size = $3 where job_id = $1 and digest is null"
_LATEST = (
    "select job_id from backfill.job where digest is not null order by created_at desc, job_id desc limit 1"
)
_READ = """
select job.job_id, job.created_at, job.batch_size, state.*
from backfill.job as job cross join lateral (
    select count(*) as repos, count(*) filter (where repo.state = 'waiting') as waiting,
        count(*) filter (where repo.state = 'ready') as ready, count(*) filter (where repo.state = 'stored') as stored,
        count(*) filter (where repo.state = 'failed') as failed,
        coalesce(sum(repo.record_count) filter (where repo.state = 'stored'), 0)::bigint as records
    from backfill.job_repo as member join backfill.repo as repo using (did) where member.job_id = job.job_id
) as state
where job.digest is not null"""
_READ_ONE = f"{_READ} and job.job_id = $1"
_LIST = f"""{_READ} and ($1 = '' or (job.created_at, job.job_id) <
    (select before.created_at, before.job_id from backfill.job as before where before.job_id = $1))
order by job.created_at desc, job.job_id desc limit $2"""
_FAILURES = """
select did, reason, detail, attempts from backfill.job_repo as member join backfill.repo as repo using (did)
where member.job_id = $1 and repo.state = 'failed' and did > $2 order by did limit $3"""

_PAGE = 5_000


@dataclass(frozen=True, slots=True)
class Wish:
    """What the first message of a stream asks for."""

    job_id: str
    batch_size: int


async def create_job(pool: Any, wish: Wish, batches: AsyncIterator[Sequence[str]]) -> bool:
    """Create a job over the DIDs of a stream; whether it was there before, over the same.

    Raises InvalidRequest when it is there over others, or has none.
    """
    stream = uuid.uuid4()
    async with transaction(pool) as connection:
        await connection.execute(_CREATE, wish.job_id, wish.batch_size)
        digest = await connection.fetchval(_LOCK, wish.job_id)
        if digest is None:
            await connection.execute(_BEGIN, wish.job_id, stream)
            await connection.execute(_CLEAR, wish.job_id)
    found = hashlib.sha256()
    count = 0
    async for dids in batches:
        count += len(dids)
        found.update("".join(f"{did}\n" for did in dids).encode())
        if digest is None and dids:
            async with transaction(pool) as connection:
                await _check_stream(connection, wish, stream)
                await connection.execute(_ADD, wish.job_id, sorted(set(dids)))
    if not count:
        raise InvalidRequest([Violation("dids", "must name at least one account")])
    if digest is not None:
        _check_same(wish, digest, found.digest())
        return True
    await _seal(pool, wish, stream, found.digest())
    return False


async def _check_stream(connection: Any, wish: Wish, stream: uuid.UUID) -> None:
    """Raises Unavailable when another stream has begun the job anew: together they would be a mixture."""
    if await connection.fetchval(_STREAM, wish.job_id) != stream:
        raise Unavailable(f"another call creates the job {wish.job_id} now; look at it, and ask again")


def _check_same(wish: Wish, known: bytes, found: bytes) -> None:
    if known != found:
        raise InvalidRequest(
            [
                Violation(
                    "job_id", f"names a job over other accounts; give these another id than {wish.job_id}"
                )
            ]
        )


async def _seal(pool: Any, wish: Wish, stream: uuid.UUID, digest: bytes) -> None:
    """Have the accounts of the job fetched, a page at a time, and then the job itself for all to see."""
    after = ""
    while True:
        async with transaction(pool) as connection:
            rows = await connection.fetch(_DIDS, wish.job_id, after, _PAGE)
            dids = [row["did"] for row in rows]
            await connection.execute(_ADD_REPOS, dids, [bucket_of(did) for did in dids])
        if len(dids) < _PAGE:
            break
        after = dids[-1]
    async with transaction(pool) as connection:
        await _check_stream(connection, wish, stream)
        await connection.execute(_SEAL, wish.job_id, digest, wish.batch_size)
        _check_same(wish, await connection.fetchval(_DIGEST, wish.job_id), digest)


async def read_job(pool: Any, job_id: str) -> Any:
    """A job as a row; of the empty id the latest. Raises NotFound."""
    with reaching_postgres():
        wanted = job_id or await pool.fetchval(_LATEST)
        row = None if wanted is None else await pool.fetchrow(_READ_ONE, wanted)
    if row is None:
        what = f"no job {job_id!r}" if job_id else "no job yet"
        raise NotFound(f"there is {what}; `tally backfill list` lists the existing ones")
    return row


async def list_jobs(pool: Any, before: str, limit: int) -> Sequence[Any]:
    """Jobs as rows, newest first, behind the one with the id `before`."""
    with reaching_postgres():
        rows: Sequence[Any] = await pool.fetch(_LIST, before, limit)
    return rows


async def list_failures(pool: Any, job_id: str, after: str, limit: int) -> Sequence[Any]:
    """The accounts of a job that were given up, as rows."""
    with reaching_postgres():
        rows: Sequence[Any] = await pool.fetch(_FAILURES, job_id, after, limit)
    return rows
