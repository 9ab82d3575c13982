"""`tally jobs force`."""

from services.cli.scheduler.runs import plan_once
from services.cli.terminal.output import write_moment
from tally.client.scheduler import ForcedState, ForcedSync


def force_sync(
    address: str, job: str, item_id: str, wait_seconds: float, request_id: str | None
) -> ForcedSync:
    """Sync one item. Raises Failure."""
    return plan_once(
        address,
        request_id,
        lambda client, id_: client.scheduler.force_sync(
            job, item_id, wait_seconds=wait_seconds, request_id=id_
        ),
    )


def describe(item_id: str, forced: ForcedSync) -> str:
    """What has become of it, in a line."""
    run = f"(run {forced.run_id})"
    match forced.state:
        case ForcedState.DONE:
            detail = f": {forced.detail}" if forced.detail else ""
            return f"{item_id}: {forced.outcome}{detail} {run}"
        case ForcedState.LEASED:
            return f"{item_id}: a worker has it; ask again for the outcome {run}"
        case ForcedState.QUEUED if forced.due_time is not None:
            return (
                f"{item_id}: waits until {write_moment(forced.due_time)}, because calls of the job fail or a quota is "
                f"used up {run}"
            )
        case ForcedState.QUEUED:
            return f"{item_id}: waits for a worker; `tally jobs workers` lists those that ask for work {run}"
        case _:
            return f"{item_id}: ended without an outcome: the job does not select it any more {run}"
