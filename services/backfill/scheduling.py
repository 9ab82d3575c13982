"""Puts ready accounts into the scheduler, and has it plan runs over them.

Its population `repo` holds the accounts, each with the number of its host; its job `backfill` selects those that are
wanted. One run is open at a time. Accounts that become ready meanwhile are put as well: a slot reads its members when
it is leased. Accounts that are still to be fetched when no run is open are put again, and a run is planned.
"""

import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc

from libs.rpc.channel import open_channel
from libs.stores.transactions import transaction
from services.backfill.settings import BackfillSettings
from tally.contract.errors import NotFound
from tally.contract.status import error_from_rpc
from tally.scheduler.v1 import job_pb2, population_pb2
from tally.scheduler.v1.job_pb2_grpc import JobServiceStub
from tally.scheduler.v1.population_pb2_grpc import PopulationServiceStub

JOB = "backfill"

_READY = """
select did, host_id from backfill.repo
where state = 'ready' and did > $1 and next_try_at <= now() and (put_at is null or $2) order by did limit $3"""
_PUT = "update backfill.repo set put_at = now() where did = any($1) and state = 'ready'"
_IS_DUE = "select exists (select from backfill.repo where state = 'ready' and next_try_at <= now())"
_BATCH_SIZE = """
select batch_size from backfill.job where digest is not null order by created_at desc, job_id desc limit 1"""

_PAGE = 5_000
_CALL_SECONDS = 10.0
_BATCH_SECONDS = 3_600


class Scheduling:
    """Keeps the scheduler's population and its job; after a call that failed the next turn calls the next scheduler."""

    def __init__(self, pool: Any, settings: BackfillSettings) -> None:
        self._pool = pool
        self._channels = [open_channel(address, settings.channel) for address in settings.scheduler]
        self._turn = 0
        self._batch_size = 0
        """of the job as it was put last"""

    async def close(self) -> None:
        """Close the connections."""
        for channel in self._channels:
            await channel.close()

    @property
    def _jobs(self) -> Any:
        return JobServiceStub(self._channels[self._turn % len(self._channels)])

    @property
    def _populations(self) -> Any:
        return PopulationServiceStub(self._channels[self._turn % len(self._channels)])

    async def turn(self) -> float | None:
        """Put the ready accounts; plan a run if none is open and accounts are wanted."""
        try:
            await self._put(everybody=False)
            if await self._pool.fetchval(_IS_DUE) and not await self._has_open_run():
                await self._put(everybody=True)
                await self._plan()
        except grpc.aio.AioRpcError as error:
            self._turn += 1
            raise error_from_rpc(error) from error
        return None

    async def _put(self, *, everybody: bool) -> None:
        """Put accounts that are ready: those that were not put yet, or all."""
        after = ""
        while True:
            rows = await self._pool.fetch(_READY, after, everybody, _PAGE)
            if not rows:
                return
            await self._populations.PutRepos(_requests(rows), timeout=_CALL_SECONDS)
            async with transaction(self._pool) as connection:
                await connection.execute(_PUT, [row["did"] for row in rows])
            after = rows[-1]["did"]

    async def _has_open_run(self) -> bool:
        try:
            response = await self._jobs.GetJob(job_pb2.GetJobRequest(name=JOB), timeout=_CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            if isinstance(error_from_rpc(error), NotFound):
                return False
            raise
        return bool(response.status.open_run_count)

    async def _plan(self) -> None:
        batch_size = await self._pool.fetchval(_BATCH_SIZE)
        if batch_size != self._batch_size:
            await self._jobs.PutJob(job_pb2.PutJobRequest(job=job_of(batch_size)), timeout=_CALL_SECONDS)
            self._batch_size = batch_size
        request = job_pb2.RunJobRequest(name=JOB, request_id=str(uuid.uuid4()), within_seconds=0)
        await self._jobs.RunJob(request, timeout=_CALL_SECONDS)


def job_of(batch_size: int) -> job_pb2.Job:
    """The job over all accounts that are wanted. Its own runs, once a week, find what a run by request has left."""
    return job_pb2.Job(
        name=JOB,
        rationale="Repositories of the jobs of the backfill are fetched, each until it is stored or given up.",
        sla_hours=24 * 14,
        population="repo",
        where={"is_wanted": True},
        handler="fetch_repo",
        cadence=job_pb2.Cadence(period=job_pb2.Period(period_hours=24 * 7, bin_max=1, offsets=[0])),
        batch=batch_size,
        slot_size=batch_size,
        batch_seconds=_BATCH_SECONDS,
    )


async def _requests(rows: Sequence[Any]) -> AsyncIterator[population_pb2.PutReposRequest]:
    yield population_pb2.PutReposRequest(
        repos=[population_pb2.Repo(did=row["did"], host=row["host_id"]) for row in rows]
    )
