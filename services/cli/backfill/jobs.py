"""`tally backfill`: jobs are created, watched and listed, and the dataset is counted."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import typer

from services.cli.backfill.did_file import Entries, open_entries
from services.cli.terminal.calling import call
from services.cli.terminal.failure import REFUSED, UNKNOWN, USAGE, Failure
from tally.client import Client, Unavailable
from tally.client.backfill import BackfillJob, CountedBucket, CreatedJob, FailedRepo

_CREATE_SECONDS = 600.0
_LOOK_SECONDS = 1.0
_TELL_SECONDS = 10.0
_DEFAULT_PORT = 50_051


def coordinate(
    address: str, input_file: str, job_id: str | None, batch_size: int, *, strict: bool, wait: bool
) -> None:
    """Create or resume a job, and wait for its end."""
    job_id = job_id or f"backfill-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    try:
        with open_entries(input_file) as entries:
            created = _create(address, job_id, _strictly(entries) if strict else iter(entries), batch_size)
            _tell_wrong(entries)
    except (OSError, UnicodeError) as error:
        raise Failure(f"--input-file: {input_file} cannot be read: {error}", USAGE) from error
    verb = "resumed" if created.was_there else "created"
    typer.echo(f"{verb} {created.job.job_id}: {created.job.repo_count} accounts")
    if wait:
        _wait(address, created.job.job_id)


def _create(address: str, job_id: str, dids: Iterator[str], batch_size: int) -> CreatedJob:
    async def create(client: Client) -> CreatedJob:
        return await client.backfill.create_job(job_id, dids, batch_size=batch_size, timeout=_CREATE_SECONDS)

    return call(address, create)


def _strictly(entries: Entries) -> Iterator[str]:
    for did in entries:
        if entries.wrong:
            break
        yield did
    if entries.wrong:
        number, text = entries.wrong[0]
        raise Failure(f"--input-file: line {number} has no DID: {text!r}", REFUSED)


def _tell_wrong(entries: Entries) -> None:
    for number, text in entries.wrong:
        typer.echo(f"line {number} has no DID and is left out: {text!r}", err=True)
    if entries.wrong_count > len(entries.wrong):
        typer.echo(f"and {entries.wrong_count - len(entries.wrong)} lines more", err=True)


def _wait(address: str, job_id: str) -> None:
    async def wait(client: Client) -> BackfillJob:
        loop = asyncio.get_running_loop()
        told_at = loop.time()
        while True:
            try:
                job = await client.backfill.get_job(job_id)
            except Unavailable:  # it is being started again; the job is in Postgres
                await asyncio.sleep(_LOOK_SECONDS)
                continue
            if job.done:
                return job
            if loop.time() - told_at >= _TELL_SECONDS:
                typer.echo(describe(job))
                told_at = loop.time()
            await asyncio.sleep(_LOOK_SECONDS)

    typer.echo(describe(call(address, wait)))


def describe(job: BackfillJob) -> str:
    """A line on how far a job is."""
    state = "done" if job.done else "in progress"
    waiting = job.waiting_count + job.ready_count
    return (
        f"{job.job_id}: {state}, {job.stored_count} stored ({job.record_count} records), "
        f"{job.failed_count} given up, {waiting} to go, of {job.repo_count}"
    )


def variables_of(
    worker_id: str | None, coordinator_host: str | None, rate_limit: int | None, *, simulated: bool
) -> dict[str, str]:
    """The environment of a worker with these options."""
    variables = {}
    if worker_id:
        variables["TALLY_WORKER__NAME"] = worker_id
    if coordinator_host:
        has_port = ":" in coordinator_host.rpartition("]")[2]
        place = coordinator_host if has_port else f"{coordinator_host}:{_DEFAULT_PORT}"
        variables["TALLY_WORKER__SCHEDULER"] = variables["TALLY_WORKER__BACKFILL"] = json.dumps([place])
    if rate_limit:
        variables["TALLY_WORKER__FETCH__RATE_LIMIT"] = str(rate_limit)
    if simulated:
        variables["TALLY_WORKER__FETCH__EGRESS__SIMULATED"] = "true"
    return variables


def read_jobs(address: str) -> list[BackfillJob]:
    """All jobs."""

    async def read(client: Client) -> list[BackfillJob]:
        return [job async for job in client.backfill.list_jobs()]

    return call(address, read)


def read_job(address: str, job_id: str) -> BackfillJob:
    """A job, or the latest."""
    return call(address, lambda client: client.backfill.get_job(job_id))


def read_failures(address: str, job_id: str) -> list[FailedRepo]:
    """The accounts that were given up."""

    async def read(client: Client) -> list[FailedRepo]:
        return [failure async for failure in client.backfill.list_failures(job_id)]

    return call(address, read)


def show_jobs(jobs: Sequence[BackfillJob], *, as_json: bool) -> None:
    """Print jobs, a line for each."""
    _show(jobs, [describe(job) for job in jobs], as_json=as_json, none="no job yet")


def show_job(job: BackfillJob, *, as_json: bool) -> None:
    """Print a job."""
    typer.echo(_as_json(job) if as_json else describe(job))


def show_failures(failures: Sequence[FailedRepo], *, as_json: bool) -> None:
    """Print accounts that were given up, a line for each."""
    lines = [f"{each.did}  {each.reason}  {each.detail}" for each in failures]
    _show(failures, lines, as_json=as_json, none="no account was given up")


def count(address: str, *, as_json: bool) -> None:
    """Count the dataset. Raises Failure when something is left."""

    async def run(client: Client) -> list[CountedBucket]:
        return [bucket async for bucket in client.backfill.count_dataset(timeout=_CREATE_SECONDS)]

    buckets = call(address, run)
    names = ("counted_count", "pending_count", "unknown_count", "other_count", "total_count")
    sums = {name: sum(getattr(bucket, name) for bucket in buckets) for name in names}
    if as_json:
        typer.echo(json.dumps(sums))
    else:
        typer.echo(
            f"counted {sums['counted_count']} events, {sums['total_count']} in all; "
            f"{sums['other_count']} likes and reposts are of no known video"
        )
    if sums["unknown_count"]:
        raise Failure(
            f"{sums['unknown_count']} events were sent more than a day ago, and it is unknown whether they were "
            "counted; they are not sent again",
            REFUSED,
        )
    if sums["pending_count"]:
        raise Failure(
            f"the receipts of {sums['pending_count']} events are still to come. Run the same again", UNKNOWN
        )


def _show(rows: Sequence[Any], lines: Sequence[str], *, as_json: bool, none: str) -> None:
    if as_json:
        for row in rows:
            typer.echo(_as_json(row))
        return
    for line in lines or [none]:
        typer.echo(line)


def _as_json(row: Any) -> str:
    return json.dumps(asdict(row), default=lambda at: at.isoformat())
