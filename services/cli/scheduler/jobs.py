"""`tally jobs put`, `list` and `show`."""

from collections.abc import Sequence

from services.cli.scheduler.lists import read_all
from services.cli.terminal.calling import call
from services.cli.terminal.output import make_table, open_console, write_moment
from tally.client import Client
from tally.client.scheduler import Job, JobStatus, Period


def put_job(address: str, job: Job) -> JobStatus:
    """Store a job. Raises Failure."""

    async def put(client: Client) -> JobStatus:
        return await client.scheduler.put_job(job)

    return call(address, put)


def read_job(address: str, name: str) -> JobStatus:
    """One job. Raises Failure."""

    async def read(client: Client) -> JobStatus:
        return await client.scheduler.get_job(name)

    return call(address, read)


def read_jobs(address: str) -> list[JobStatus]:
    """All jobs. Raises Failure."""

    async def read(client: Client) -> list[JobStatus]:
        return await read_all(
            lambda size, token: client.scheduler.list_jobs(page_size=size, page_token=token)
        )

    return call(address, read)


def pause_job(address: str, name: str, reason: str) -> JobStatus:
    """Hold a job back. Raises Failure."""

    async def pause(client: Client) -> JobStatus:
        return await client.scheduler.pause_job(name, reason)

    return call(address, pause)


def resume_job(address: str, name: str) -> JobStatus:
    """End a pause. Raises Failure."""

    async def resume(client: Client) -> JobStatus:
        return await client.scheduler.resume_job(name)

    return call(address, resume)


def show_jobs(jobs: Sequence[JobStatus]) -> None:
    """The jobs as a table on standard output."""
    console = open_console()
    if not jobs:
        console.print("no jobs")
        return
    headings = ("job", "population", "handler", "cadence", "state", "#open runs", "next run")
    table = make_table(console, "Jobs", *headings)
    for status in jobs:
        job = status.job
        table.add_row(
            job.name,
            job.population,
            job.handler,
            _cadence(job),
            _state(status),
            str(status.open_run_count),
            write_moment(status.next_plan_time),
        )
    console.print(table)
    for status in jobs:
        for warning in status.warnings:
            console.print(f"{status.job.name}: {warning}")


def show_job(status: JobStatus) -> None:
    """The job as a table on standard output."""
    console, job = open_console(), status.job
    table = make_table(console, "Job", "", "")
    table.show_header = False
    window = job.window and f"{job.window.start_minutes} min, for {job.window.length_minutes} min"
    for name, value in {
        "name": job.name,
        "rationale": job.rationale,
        "sla": f"{job.sla_hours} h",
        "population": job.population,
        "where": ", ".join(f"{column} = {str(value).lower()}" for column, value in sorted(job.where.items())),
        "handler": job.handler,
        "cadence": _cadence(job),
        "largest gap": f"{status.largest_gap_hours:g} h",
        "window": window or "",
        "batch": f"{job.batch}, {job.batch_seconds} s",
        "slot": f"{job.slot_size} members",
        "quotas": ", ".join(f"{units} of {name} a batch" for name, units in sorted(job.quotas.items())),
        "catch-up": f"{job.catchup_hours} h",
        "overlap": job.overlap,
        "state": _state(status),
        "open runs": str(status.open_run_count),
        "next run": f"{write_moment(status.next_plan_time)}, of {write_moment(status.next_logical_time)}",
    }.items():
        if value:
            table.add_row(name, value)
    console.print(table)
    for warning in status.warnings:
        console.print(f"Warning: {warning}")


def _cadence(job: Job) -> str:
    if isinstance(job.cadence, Period):
        offsets = ", ".join(map(str, job.cadence.offsets))
        cadence = f"each {job.cadence.period_hours} h, {offsets} of {job.cadence.bin_max}"
    else:
        cadence = job.cadence
    return f"{cadence}, phase {job.phase}" if job.phase else cadence


def _state(status: JobStatus) -> str:
    state = f"{status.state}: {status.state_reason}" if status.state_reason else status.state
    if status.rest_until_time is None:
        return state
    return f"{state}, rests until {write_moment(status.rest_until_time)}: calls failed"
