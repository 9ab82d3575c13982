"""`tally backfill`: what its commands take, and what they say of themselves."""

import os
from typing import Annotated

import typer

from services.cli.terminal.options import DEFAULT_ADDRESS, Address, AsJson

Job = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.", show_default="the latest")]


def add_commands(app: typer.Typer) -> None:
    """`tally backfill`."""
    app.add_typer(make_backfill(), name="backfill")


def make_backfill() -> typer.Typer:
    """The commands under `tally backfill`."""
    app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    app.callback()(backfill)
    app.command("list")(list_)
    for command in (coordinator, worker, show, failures, count):
        app.command()(command)
    return app


def backfill() -> None:
    """Fetch Bluesky repositories, verify them, and count their likes, reposts and posts with video.

    \b
    Example:
      tally backfill coordinator --input-file dids.txt
      tally backfill count
      tally get at://DID/app.bsky.feed.post/KEY --type like --strong
    """


def coordinator(
    input_file: Annotated[
        str,
        typer.Option(
            "--input-file",
            metavar="FILE",
            help="DIDs, one per line, or CSV `did,host`; may end in .gz; - is the standard input.",
            show_default=False,
        ),
    ],
    job_id: Annotated[
        str | None, typer.Option("--job-id", metavar="ID", help="The job's id.", show_default="from the time")
    ] = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", metavar="N", min=1, max=1_000, help="Accounts in a batch.")
    ] = 50,
    strict: Annotated[bool, typer.Option("--strict", help="End if a line has no DID.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the job is done.")] = True,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Create a job over the accounts of a file, and tell how far it is until it is done.

    The same id with the same file resumes the job. Workers do it: those of `tally up`, or of `tally backfill worker`.

    \b
    Example:
      tally backfill coordinator --input-file dids.txt --batch-size 50
    """
    from services.cli.backfill import jobs as module

    module.coordinate(address, input_file, job_id, batch_size, strict=strict, wait=wait)


def worker(
    worker_id: Annotated[
        str | None,
        typer.Option(
            "--worker-id", metavar="NAME", help="What its name begins with.", show_default="the host's name"
        ),
    ] = None,
    coordinator_host: Annotated[
        str | None,
        typer.Option(
            "--coordinator-host",
            metavar="HOST[:PORT]",
            help="Where scheduler and backfill are.",
            show_default="TALLY_WORKER__SCHEDULER and TALLY_WORKER__BACKFILL",
        ),
    ] = None,
    rate_limit: Annotated[
        int | None,
        typer.Option(
            "--rate-limit",
            metavar="N",
            min=2,
            help="Most calls to one host in 5 minutes.",
            show_default="3000",
        ),
    ] = None,
    simulated: Annotated[
        bool, typer.Option("--simulated", help="Call nothing but this machine, where simulators are.")
    ] = False,
) -> None:
    """Run a worker in the foreground, until Ctrl-C. It needs TALLY_POSTGRES__DSN and TALLY_VALKEY__URL.

    What it has fetched and not handed over yet is in TALLY_DATA_DIR; a worker that is started there goes on with it.

    \b
    Example:
      tally backfill worker --worker-id worker1 --coordinator-host localhost
    """
    from services.cli.backfill import jobs as module
    from services.cli.suite.up import run
    from services.startup import end_on_signals

    end_on_signals()
    os.environ.update(module.variables_of(worker_id, coordinator_host, rate_limit, simulated=simulated))
    raise typer.Exit(run(["worker"]))


def list_(as_json: AsJson = False, address: Address = DEFAULT_ADDRESS) -> None:
    """List the jobs, newest first."""
    from services.cli.backfill import jobs as module

    module.show_jobs(module.read_jobs(address), as_json=as_json)


def show(job: Job = "", as_json: AsJson = False, address: Address = DEFAULT_ADDRESS) -> None:
    """Show how far a job is."""
    from services.cli.backfill import jobs as module

    module.show_job(module.read_job(address, job), as_json=as_json)


def failures(job: Job = "", as_json: AsJson = False, address: Address = DEFAULT_ADDRESS) -> None:
    """List the accounts of a job that were given up, with the reason for each."""
    from services.cli.backfill import jobs as module

    module.show_failures(module.read_failures(address, job), as_json=as_json)


def count(as_json: AsJson = False, address: Address = DEFAULT_ADDRESS) -> None:
    """Count what was fetched and is not counted yet. Harmless to repeat: each record is counted exactly once.

    It exits with 3 while receipts are still to come; run it again then.
    """
    from services.cli.backfill import jobs as module

    module.count(address, as_json=as_json)
