"""Forced syncs."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tally.client._checks.times import from_timestamp
from tally.scheduler.v1 import job_pb2 as pb
from tally.scheduler.v1 import work_pb2 as work


class ForcedState(StrEnum):
    """What has become of a forced sync."""

    QUEUED = "queued"
    """no worker has it"""
    LEASED = "leased"
    """a worker has it"""
    DONE = "done"
    """it has its outcome"""
    DROPPED = "dropped"
    """it ended without an outcome: the job does not select the item any more"""
    UNSPECIFIED = "unspecified"
    """sent by a service that is newer than this client"""


_STATES = {
    pb.FORCED_STATE_QUEUED: ForcedState.QUEUED,
    pb.FORCED_STATE_LEASED: ForcedState.LEASED,
    pb.FORCED_STATE_DONE: ForcedState.DONE,
    pb.FORCED_STATE_DROPPED: ForcedState.DROPPED,
}
_OUTCOMES = {
    work.OUTCOME_SYNCED: "synced",
    work.OUTCOME_UNCHANGED: "unchanged",
    work.OUTCOME_GONE: "gone",
    work.OUTCOME_RETRY: "retry",
    work.OUTCOME_FAILED: "failed",
}


@dataclass(frozen=True, slots=True)
class ForcedSync:
    """A sync of one item that was asked for.

    `outcome`: synced, unchanged, gone, retry (it is tried again in the same run) or failed, once it is done; else
    empty. `detail`: the reason, as the worker reported it. `due_time`: of a queued one that cannot be leased before,
    because calls of the job fail or a quota is used up; else None.
    """

    run_id: int
    state: ForcedState
    outcome: str
    detail: str
    due_time: datetime | None

    @classmethod
    def from_message(cls, message: pb.ForceSyncResponse) -> "ForcedSync":
        return cls(
            message.run_id,
            _STATES.get(message.state, ForcedState.UNSPECIFIED),
            _OUTCOMES.get(message.outcome, ""),
            message.detail,
            from_timestamp(message.due_time) if message.HasField("due_time") else None,
        )
