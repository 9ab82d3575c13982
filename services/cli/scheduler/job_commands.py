"""`tally jobs`: what its commands take, and what they say of themselves."""

from enum import StrEnum
from typing import Annotated

import typer

from services.cli.scheduler.dead_commands import make_dead
from services.cli.scheduler.options import Name, RequestId
from services.cli.terminal.options import DEFAULT_ADDRESS, Address, AsJson, Limit


class Filter(StrEnum):
    """Which runs are listed."""

    PLANNED = "planned"
    RUNNING = "running"
    DONE = "done"
    PARTIAL = "partial"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    ALL = "all"


def make_jobs() -> typer.Typer:
    """The commands under `tally jobs`."""
    app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    app.callback()(jobs)
    app.command()(put)
    app.command("list")(list_)
    for command in (show, pause, resume, runs, run, cancel, force, workers, bins):
        app.command()(command)
    app.add_typer(make_dead(), name="dead")
    return app


def jobs() -> None:
    """Define jobs that keep videos and channels in sync with another company's api, and see how they do.

    \b
    Example:
      tally jobs list
    """


def put(
    file: Annotated[str, typer.Argument(metavar="FILE", help="TOML; - is standard input.")],
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Define the job of a file, or change it from the next run on. Harmless to repeat.

    docs/scheduler.md explains the keys.

    \b
    Example:
      tally jobs put services/scheduler/jobs/metadata.toml
    """
    from services.cli.scheduler import jobs as module
    from services.cli.scheduler.definitions import read_job
    from services.cli.terminal.output import write_json

    stored = module.put_job(address, read_job(file))
    if as_json:
        typer.echo(write_json(stored))
    else:
        module.show_job(stored)


def list_(as_json: AsJson = False, address: Address = DEFAULT_ADDRESS) -> None:
    """List the jobs.

    \b
    Example:
      tally jobs list --json
    """
    from services.cli.scheduler import jobs as module
    from services.cli.terminal.output import write_json

    found = module.read_jobs(address)
    if as_json:
        typer.echo(write_json(found))
    else:
        module.show_jobs(found)


def show(name: Name, as_json: AsJson = False, address: Address = DEFAULT_ADDRESS) -> None:
    """Show one job: its definition, when it runs next, and what an operator should know.

    \b
    Example:
      tally jobs show daily_sync_all_metadata_binned
    """
    from services.cli.scheduler import jobs as module
    from services.cli.terminal.output import write_json

    found = module.read_job(address, name)
    if as_json:
        typer.echo(write_json(found))
    else:
        module.show_job(found)


def pause(
    name: Name,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="For those who look at the job.", show_default=False)
    ],
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Plan no runs of a job, and hold back its slots. Batches under way are recorded. Harmless to repeat.

    \b
    Example:
      tally jobs pause daily_sync_all_metadata_binned --reason "the api is being upgraded"
    """
    from services.cli.scheduler import jobs as module
    from services.cli.terminal.output import write_json

    paused = module.pause_job(address, name, reason)
    typer.echo(write_json(paused) if as_json else f"{paused.job.name} is paused: {paused.state_reason}")


def resume(name: Name, as_json: AsJson = False, address: Address = DEFAULT_ADDRESS) -> None:
    """End the pause of a job. Runs that were missed are planned late, as far back as `catchup_hours`.

    \b
    Example:
      tally jobs resume daily_sync_all_metadata_binned
    """
    from services.cli.scheduler import jobs as module
    from services.cli.terminal.output import write_json

    resumed = module.resume_job(address, name)
    typer.echo(
        write_json(resumed)
        if as_json
        else f"{resumed.job.name} is {resumed.state}; {resumed.open_run_count:,} runs are open"
    )


def runs(
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="Of this job alone.", show_default=False)
    ] = "",
    state: Annotated[Filter, typer.Option(help="Only runs in this state.")] = Filter.ALL,
    limit: Limit = 20,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """List runs, newest first, with what has become of their members.

    \b
    Example:
      tally jobs runs daily_sync_all_metadata_binned --state running
    """
    from services.cli.scheduler import runs as module
    from services.cli.terminal.output import write_json

    found = module.read_runs(address, name, None if state is Filter.ALL else state.value, limit)
    if as_json:
        typer.echo(write_json(found))
    else:
        module.show_runs(found)


def run(
    name: Name,
    within: Annotated[
        int,
        typer.Option(metavar="SECONDS", min=0, help="Its slots become due over so many seconds; 0: at once."),
    ] = 0,
    request_id: RequestId = None,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Run a job now, beside the runs of its cadence, with the bins of the current period.

    \b
    Example:
      tally jobs run daily_sync_all_metadata_binned --within 600
    """
    from services.cli.scheduler import runs as module
    from services.cli.terminal.output import write_json

    planned = module.run_job(address, name, within, request_id)
    typer.echo(write_json(planned) if as_json else module.describe(planned))


def cancel(
    run_id: Annotated[
        int, typer.Argument(metavar="RUN", help="The number of the run.", min=1, show_default=False)
    ],
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="For those who look at the run.", show_default=False)
    ],
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Cancel a run that has not ended. Batches under way are recorded; the rest waits for the next run.

    \b
    Example:
      tally jobs cancel 17 --reason "planned by mistake"
    """
    from services.cli.scheduler import runs as module
    from services.cli.terminal.output import write_json

    cancelled = module.cancel_run(address, run_id, reason)
    typer.echo(
        write_json(cancelled)
        if as_json
        else f"run {cancelled.id} of {cancelled.job} is cancelled: {cancelled.unreached_count:,} members not reached"
    )


def force(
    name: Name,
    item: Annotated[str, typer.Argument(metavar="ID", help="Of a member of the job.", show_default=False)],
    wait: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=0, max=20, help="For the outcome; after that it is still synced."
        ),
    ] = 15.0,
    request_id: RequestId = None,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Sync one item now, before all other work, and wait for its outcome. The protected share of the quotas pays.

    \b
    Example:
      tally jobs force daily_sync_all_metadata_binned MBdVXkSdhwU
    """
    from services.cli.scheduler import forced as module
    from services.cli.terminal.output import write_json

    forced = module.force_sync(address, name, item, wait, request_id)
    typer.echo(write_json(forced) if as_json else module.describe(item, forced))


def workers(as_json: AsJson = False, address: Address = DEFAULT_ADDRESS) -> None:
    """List the workers that asked for work within the last minute, or hold a lease.

    \b
    Example:
      tally jobs workers
    """
    from services.cli.scheduler import workers as module
    from services.cli.terminal.output import write_json

    found = module.read_workers(address)
    if as_json:
        typer.echo(write_json(found))
    else:
        module.show_workers(found)


def bins(
    population: Annotated[
        str, typer.Argument(metavar="POPULATION", help="youtube_video or youtube_channel.")
    ],
    bin_max: Annotated[int, typer.Option(metavar="N", min=1, help="Into how many bins it is divided.")] = 7,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Count the members of a population in each bin.

    \b
    Example:
      tally jobs bins youtube_video --bin-max 28
    """
    from services.cli.scheduler import bins as module

    counts = module.read_bins(address, population, bin_max)
    if as_json:
        typer.echo(module.to_json(counts))
    else:
        module.show_bins(counts)
