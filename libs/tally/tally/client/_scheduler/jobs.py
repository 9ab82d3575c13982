"""Jobs: the work on the members of a population, its frequency, and its quotas."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from tally.client._checks.times import from_timestamp
from tally.contract.errors import InvalidRequest
from tally.scheduler.v1 import job_pb2 as pb

T = TypeVar("T")

_OVERLAPS = {
    "queue": pb.OVERLAP_QUEUE,
    "skip": pb.OVERLAP_SKIP,
    "buffer_one": pb.OVERLAP_BUFFER_ONE,
}
_MODES = {"live": pb.MODE_LIVE}
_OVERLAP_NAMES = {number: name for name, number in _OVERLAPS.items()}
_MODE_NAMES = {number: name for name, number in _MODES.items()}
_STATES = {pb.JOB_STATE_ACTIVE: "active", pb.JOB_STATE_PAUSED: "paused"}
_UNKNOWN = "unspecified"


@dataclass(frozen=True, slots=True)
class Period:
    """A cadence: in period n, counted from Monday 1970-01-05 00:00 UTC, the bins (n + offset) % bin_max are selected.

    `period_hours`: a divisor of 24, or a multiple of it.
    """

    period_hours: int
    bin_max: int
    offsets: tuple[int, ...]

    def to_message(self) -> pb.Period:
        return pb.Period(period_hours=self.period_hours, bin_max=self.bin_max, offsets=self.offsets)


def cadence_message(cadence: str | Period, phase: int) -> pb.Cadence:
    """A preset or a period on the wire."""
    if isinstance(cadence, Period):
        return pb.Cadence(period=cadence.to_message(), phase=phase)
    return pb.Cadence(preset=cadence, phase=phase)


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a period in which its slots become due, in minutes from the period's start in UTC."""

    start_minutes: int
    length_minutes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A definition of a job. 0, and None for the window, mean the service's default.

    `rationale`: why it is there and why this often. `sla_hours`: no member may be older. `where`: only members whose
    column has this value. `cadence`: a preset such as `twice_weekly`, or a Period. `phase`: shifts the job's bins
    relative to those of other jobs, in periods. `batch`: ids in one call of the handler. `slot_size`: members of a
    slot, a multiple of the batch. `batch_seconds`: the handler's time limit for a batch. `quotas`: units of each quota
    that a batch costs. `catchup_hours`: runs missed by at most so many hours are planned late, and a run that is not
    finished so long after its window closed ends as partial. `overlap`: `queue`; `skip` or `buffer_one` if each run
    selects all bins. `mode`: `live`. `allow_skew`: accepts bins that differ in size.
    """

    name: str
    rationale: str
    sla_hours: int
    population: str
    handler: str
    cadence: str | Period
    phase: int = 0
    where: Mapping[str, bool] = field(default_factory=dict)
    window: Window | None = None
    batch: int = 0
    slot_size: int = 0
    batch_seconds: int = 0
    quotas: Mapping[str, int] = field(default_factory=dict)
    catchup_hours: int = 0
    overlap: str = "queue"
    rollout_percent: int = 0
    mode: str = "live"
    allow_skew: bool = False

    def to_message(self) -> pb.Job:
        """Raises InvalidRequest for what the protocol cannot express."""
        window = None
        if self.window is not None:
            window = pb.Window(
                start_minutes=self.window.start_minutes, length_minutes=self.window.length_minutes
            )
        return pb.Job(
            name=self.name,
            rationale=self.rationale,
            sla_hours=self.sla_hours,
            population=self.population,
            where=self.where,
            handler=self.handler,
            cadence=cadence_message(self.cadence, self.phase),
            window=window,
            batch=self.batch,
            slot_size=self.slot_size,
            batch_seconds=self.batch_seconds,
            quotas=self.quotas,
            catchup_hours=self.catchup_hours,
            overlap=_number("overlap", self.overlap, _OVERLAPS),
            rollout_percent=self.rollout_percent,
            mode=_number("mode", self.mode, _MODES),
            allow_skew=self.allow_skew,
        )

    @classmethod
    def from_message(cls, message: pb.Job) -> "Job":
        period, window = message.cadence.period, message.window
        return cls(
            name=message.name,
            rationale=message.rationale,
            sla_hours=message.sla_hours,
            population=message.population,
            handler=message.handler,
            cadence=message.cadence.preset
            or Period(period.period_hours, period.bin_max, tuple(period.offsets)),
            phase=message.cadence.phase,
            where=dict(message.where),
            window=Window(window.start_minutes, window.length_minutes)
            if message.HasField("window")
            else None,
            batch=message.batch,
            slot_size=message.slot_size,
            batch_seconds=message.batch_seconds,
            quotas=dict(message.quotas),
            catchup_hours=message.catchup_hours,
            overlap=_OVERLAP_NAMES.get(message.overlap, _UNKNOWN),
            rollout_percent=message.rollout_percent,
            mode=_MODE_NAMES.get(message.mode, _UNKNOWN),
            allow_skew=message.allow_skew,
        )


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job and how it is doing.

    `state`: `active` or `paused`; `state_reason`: why. `next_logical_time`: the start of the next period that will be
    planned; `next_plan_time`: when its window opens. `open_run_count`: runs that have not ended. `rest_until_time`:
    nothing is leased before, because calls failed as a whole; None when the job does not rest. `largest_gap_hours`: the
    longest time between the starts of two periods that select the same member.
    """

    job: Job
    state: str
    next_logical_time: datetime
    next_plan_time: datetime
    open_run_count: int
    rest_until_time: datetime | None
    warnings: tuple[str, ...]
    largest_gap_hours: float
    state_reason: str = ""

    @classmethod
    def from_message(cls, message: pb.JobStatus) -> "JobStatus":
        return cls(
            job=Job.from_message(message.job),
            state=_STATES.get(message.state, _UNKNOWN),
            next_logical_time=from_timestamp(message.next_logical_time),
            next_plan_time=from_timestamp(message.next_plan_time),
            open_run_count=message.open_run_count,
            rest_until_time=from_timestamp(message.rest_until_time)
            if message.HasField("rest_until_time")
            else None,
            warnings=tuple(message.warnings),
            largest_gap_hours=message.largest_gap_hours,
            state_reason=message.state_reason,
        )


@dataclass(frozen=True, slots=True)
class BinNumbers:
    """The bins that a cadence selects, ascending, of `bin_max`; and the start of the period."""

    bin_numbers: tuple[int, ...]
    bin_max: int
    logical_time: datetime


def _number(name: str, value: str, known: Mapping[str, T]) -> T:
    if value not in known:
        raise InvalidRequest.of(name, f"{value!r} is none of {', '.join(known)}")
    return known[value]
