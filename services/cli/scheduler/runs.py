"""`tally jobs runs` and `run`."""

import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import TypeVar

from services.cli.scheduler.lists import read_all
from services.cli.terminal.calling import call, is_unsettled
from services.cli.terminal.calling import describe as describe_error
from services.cli.terminal.failure import REFUSED, UNKNOWN, Failure
from services.cli.terminal.output import make_table, open_console, write_moment
from tally.client import Client, TallyError
from tally.client.scheduler import Run, RunState

T = TypeVar("T")


def read_runs(address: str, job: str, state: str | None, limit: int) -> list[Run]:
    """The newest runs. Raises Failure."""

    async def read(client: Client) -> list[Run]:
        return await read_all(
            lambda size, token: client.scheduler.list_runs(
                job, state=state, page_size=size, page_token=token
            ),
            limit,
        )

    return call(address, read)


def run_job(address: str, name: str, within_seconds: int, request_id: str | None) -> Run:
    """Plan a run. Raises Failure."""
    return plan_once(
        address,
        request_id,
        lambda client, id_: client.scheduler.run_job(name, within_seconds=within_seconds, request_id=id_),
    )


def cancel_run(address: str, run_id: int, reason: str) -> Run:
    """Cancel a run. Raises Failure."""

    async def cancel(client: Client) -> Run:
        return await client.scheduler.cancel_run(run_id, reason)

    return call(address, cancel)


def plan_once(address: str, request_id: str | None, plan: Callable[[Client, str], Awaitable[T]]) -> T:
    """Plan a run under a request id, a new one if there is none. Raises Failure."""
    request_id = request_id or str(uuid.uuid4())

    async def run(client: Client) -> T:
        try:
            return await plan(client, request_id)
        except TallyError as error:
            message = describe_error(error, address)
            if not is_unsettled(error):
                raise Failure(message, REFUSED) from error
            again = f"To be sure that one run is planned, run the same again with --request-id {request_id}"
            raise Failure(f"{message} {again}", UNKNOWN) from error

    return call(address, run)


def describe(run: Run) -> str:
    """A run that was planned, in a line."""
    bins = ", ".join(map(str, run.bin_numbers))
    return (
        f"run {run.id} of {run.job} is planned: {run.member_count:,} members of bins {bins} of {run.bin_max}, "
        f"in {run.slot_count:,} slots"
    )


def show_runs(runs: Sequence[Run]) -> None:
    """The runs as a table on standard output."""
    console = open_console()
    if not runs:
        console.print("no runs")
        return
    headings = ("#run", "job", "logical time", "state", "#members", "#slots", "outcomes", "started", "ended")
    table = make_table(console, "Runs", *headings)
    for run in runs:
        outcomes = [f"{count:,} {name}" for name, count in asdict(run.outcomes).items() if count]
        table.add_row(
            str(run.id),
            run.job,
            _logical_time(run),
            _state(run),
            f"{run.member_count:,}",
            f"{run.done_slot_count:,}/{run.slot_count:,}",
            ", ".join(outcomes),
            write_moment(run.start_time),
            write_moment(run.end_time),
        )
    console.print(table)


def _state(run: Run) -> str:
    unreached = f", {run.unreached_count:,} members not reached" if run.unreached_count else ""
    return (f"{run.state}: {run.reason}" if run.reason else run.state) + unreached


def _logical_time(run: Run) -> str:
    at = write_moment(run.logical_time)
    if run.state is RunState.SKIPPED:
        return f"{at} to {write_moment(run.last_skipped_time)}, {run.skipped_count} times"
    return f"{at}, repeat {run.repeat}" if run.repeat else at
