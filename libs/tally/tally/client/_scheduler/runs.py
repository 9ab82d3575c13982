"""Runs: a job at one logical time; and the workers that do the work."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from google.protobuf.timestamp_pb2 import Timestamp

from tally.client._checks.times import from_timestamp
from tally.contract.errors import InvalidRequest
from tally.scheduler.v1 import job_pb2 as pb


class RunState(StrEnum):
    """The results of a run."""

    PLANNED = "planned"
    """its slots are written, none was leased yet"""
    RUNNING = "running"
    DONE = "done"
    PARTIAL = "partial"
    """not finished `catchup_hours` after its window closed"""
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    """not planned: its time had passed by more than `catchup_hours`, or `overlap` forbade it"""
    UNSPECIFIED = "unspecified"
    """sent by a service that is newer than this client"""

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self in (RunState.PLANNED, RunState.RUNNING)


_STATES: dict[RunState, pb.RunState] = {
    RunState.PLANNED: pb.RUN_STATE_PLANNED,
    RunState.RUNNING: pb.RUN_STATE_RUNNING,
    RunState.DONE: pb.RUN_STATE_DONE,
    RunState.PARTIAL: pb.RUN_STATE_PARTIAL,
    RunState.CANCELLED: pb.RUN_STATE_CANCELLED,
    RunState.SKIPPED: pb.RUN_STATE_SKIPPED,
}
_NAMES = {number: state for state, number in _STATES.items()}


def state_number(state: RunState | str | None) -> pb.RunState:
    """The state as a filter; None is any state. Raises InvalidRequest."""
    if state is None:
        return pb.RUN_STATE_UNSPECIFIED
    try:
        return _STATES[RunState(state)]
    except (KeyError, ValueError):
        raise InvalidRequest.of("state", f"{state!r} is none of {', '.join(_STATES)}") from None


@dataclass(frozen=True, slots=True)
class OutcomeCounts:
    """How many items had which outcome."""

    synced: int
    unchanged: int
    gone: int
    retry: int
    failed: int


@dataclass(frozen=True, slots=True)
class Run:
    """A job at one logical time.

    `repeat`: 0 when the cadence planned it, 1 and more when it was asked for. `open_time`: when its first slot is due;
    `close_time`: when its last one is. `member_count`: when it was planned. Of a skipped run: the row stands for
    `skipped_count` logical times, from `logical_time` to `last_skipped_time`. `unreached_count`: of a partial or
    cancelled run, the members in slots that were not done.
    """

    id: int
    job: str
    logical_time: datetime
    repeat: int
    state: RunState
    reason: str
    open_time: datetime
    close_time: datetime
    plan_time: datetime
    start_time: datetime | None
    end_time: datetime | None
    bin_numbers: tuple[int, ...]
    bin_max: int
    member_count: int
    slot_count: int
    done_slot_count: int
    outcomes: OutcomeCounts
    last_skipped_time: datetime | None
    skipped_count: int
    unreached_count: int

    @classmethod
    def from_message(cls, message: pb.Run) -> "Run":
        def optional(name: str) -> datetime | None:
            at: Timestamp = getattr(message, name)
            return from_timestamp(at) if message.HasField(name) else None

        outcomes = message.outcomes
        return cls(
            id=message.id,
            job=message.job,
            logical_time=from_timestamp(message.logical_time),
            repeat=message.repeat,
            state=_NAMES.get(message.state, RunState.UNSPECIFIED),
            reason=message.reason,
            open_time=from_timestamp(message.open_time),
            close_time=from_timestamp(message.close_time),
            plan_time=from_timestamp(message.plan_time),
            start_time=optional("start_time"),
            end_time=optional("end_time"),
            bin_numbers=tuple(message.bin_numbers),
            bin_max=message.bin_max,
            member_count=message.member_count,
            slot_count=message.slot_count,
            done_slot_count=message.done_slot_count,
            outcomes=OutcomeCounts(
                outcomes.synced, outcomes.unchanged, outcomes.gone, outcomes.retry, outcomes.failed
            ),
            last_skipped_time=optional("last_skipped_time"),
            skipped_count=message.skipped_count,
            unreached_count=message.unreached_count,
        )


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that asks for work: when it first and last asked, and how many slots it holds a lease on."""

    name: str
    handlers: tuple[str, ...]
    create_time: datetime
    ask_time: datetime
    lease_count: int

    @classmethod
    def from_message(cls, message: pb.Worker) -> "Worker":
        return cls(
            message.name,
            tuple(message.handlers),
            from_timestamp(message.create_time),
            from_timestamp(message.ask_time),
            message.lease_count,
        )
