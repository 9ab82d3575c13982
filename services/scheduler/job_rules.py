"""Validation of job definitions: protobuf → Definition, or all violations. Pure."""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta

from libs.domain import cadence as cadences
from libs.domain.bins import selects_all, skew
from libs.domain.cadence import PRESETS, Cadence
from libs.domain.handlers import HANDLERS
from services.scheduler.definition import Definition, Overlap
from services.scheduler.populations import POPULATIONS
from tally.contract.errors import InvalidRequest, Violation
from tally.scheduler.v1 import job_pb2 as pb

_NAME = re.compile(r"[a-z0-9_]{1,64}", re.ASCII)
NAME = "must be 1 to 64 of the characters a-z, 0-9 and _"
_MOST_SLOT_SIZE = 1_000
_MOST_BIN_MAX = 100_000
_MOST_HOURS = 24 * 366
_MOST_BATCH_SECONDS = 3_600
_BATCH_SECONDS, _CATCHUP_HOURS = 20, 48
_OVERLAPS: Mapping[int, Overlap] = {
    pb.OVERLAP_UNSPECIFIED: Overlap.QUEUE,
    pb.OVERLAP_QUEUE: Overlap.QUEUE,
    pb.OVERLAP_SKIP: Overlap.SKIP,
    pb.OVERLAP_BUFFER_ONE: Overlap.BUFFER_ONE,
}
FEW_MEMBERS = 1_000
"""Below this many members bins are no even spread."""

Tell = Callable[[str, str], None]
"""called with a field and its violation"""


def check_name(name: str) -> str | None:
    """Names of jobs, quotas and handlers."""
    return None if _NAME.fullmatch(name) else NAME


def read_cadence(cadence: pb.Cadence, tell: Tell, field: str = "cadence") -> Cadence | None:
    """A cadence, or None after telling what is wrong with it."""
    match cadence.WhichOneof("rhythm"):
        case "preset":
            preset = PRESETS.get(cadence.preset)
            if preset is None:
                tell(f"{field}.preset", f"must be one of {', '.join(PRESETS)}")
                return None
            return Cadence(preset.period_hours, preset.bin_max, preset.offsets, cadence.phase)
        case "period":
            return _read_period(cadence.period, cadence.phase, tell, f"{field}.period")
        case _:
            tell(field, "must be a preset, or a period with bin_max and offsets")
            return None


def read_definition(job: pb.Job, quotas: Mapping[str, int], bin_space: int) -> Definition:
    """The definition that a request holds, defaults filled in. `quotas`: how much of each a batch may cost at most.

    Raises InvalidRequest for everything that is wrong with it.
    """
    violations: list[Violation] = []

    def tell(field: str, problem: str) -> None:
        violations.append(Violation(f"job.{field}", problem))

    _check_words(job, tell)
    _check_targets(job, tell)
    _check_modes(job, tell)
    cadence = read_cadence(job.cadence, tell)
    if cadence is not None:
        _check_bins(cadence, job.allow_skew, bin_space, tell)
        population = POPULATIONS.get(job.population)
        if population is not None and not population.shares_slots and cadence.bin_max != 1:
            tell("cadence", f"must select everybody, by a bin_max of 1: {job.population} has no bins yet")
        start, length = _read_window(job, cadence, tell)
        overlap = _read_overlap(job, cadence, tell)
    batch, slot_size = _read_sizes(job, tell)
    _check_costs(job.quotas, quotas, tell)
    if violations or cadence is None:
        raise InvalidRequest(violations)
    definition = Definition(
        name=job.name,
        rationale=job.rationale.strip(),
        sla_hours=job.sla_hours,
        population=job.population,
        where=dict(job.where),
        handler=job.handler,
        preset=job.cadence.preset,
        period_hours=cadence.period_hours,
        bin_max=cadence.bin_max,
        offsets=cadence.offsets,
        phase=cadence.phase,
        start_minutes=start,
        length_minutes=length,
        batch=batch,
        slot_size=slot_size,
        batch_seconds=job.batch_seconds or _BATCH_SECONDS,
        quotas=dict(job.quotas),
        catchup_hours=job.catchup_hours or _CATCHUP_HOURS,
        allow_skew=job.allow_skew,
        overlap=overlap,
    )
    _check_sla(definition)
    return definition


def _read_period(period: pb.Period, phase: int, tell: Tell, field: str) -> Cadence | None:
    offsets = tuple(period.offsets)
    told = False

    def refuse(name: str, problem: str) -> None:
        nonlocal told
        told = True
        tell(f"{field}.{name}", problem)

    if not cadences.is_period(period.period_hours) or period.period_hours > _MOST_HOURS:
        refuse("period_hours", f"must divide 24, or be a multiple of 24 up to {_MOST_HOURS}")
    if not 1 <= period.bin_max <= _MOST_BIN_MAX:
        refuse("bin_max", f"must be from 1 to {_MOST_BIN_MAX}")
    elif not offsets:
        refuse("offsets", "must name at least one bin; an empty list selects no member")
    elif any(not 0 <= offset < period.bin_max for offset in offsets):
        refuse("offsets", f"must be from 0 to {period.bin_max - 1}, one less than bin_max")
    elif len(set(offsets)) < len(offsets):
        refuse("offsets", "must not name a bin twice")
    return None if told else Cadence(period.period_hours, period.bin_max, tuple(sorted(offsets)), phase)


def _check_words(job: pb.Job, tell: Tell) -> None:
    if problem := check_name(job.name):
        tell("name", problem)
    if not job.rationale.strip():
        tell("rationale", "must say why the job is there and why this often")
    if not 1 <= job.sla_hours <= _MOST_HOURS:
        tell("sla_hours", f"must be from 1 to {_MOST_HOURS}")
    if not 0 <= job.batch_seconds <= _MOST_BATCH_SECONDS:
        tell("batch_seconds", f"must be from 1 to {_MOST_BATCH_SECONDS}, or 0 for {_BATCH_SECONDS}")
    if not 0 <= job.catchup_hours <= _MOST_HOURS:
        tell("catchup_hours", f"must be from 1 to {_MOST_HOURS}, or 0 for {_CATCHUP_HOURS}")


def _check_targets(job: pb.Job, tell: Tell) -> None:
    population = POPULATIONS.get(job.population)
    if population is None:
        tell("population", f"must be one of {', '.join(POPULATIONS)}")
    elif unknown := sorted(set(job.where) - population.filters):
        tell("where", f"{unknown[0]} is no filter; there are {', '.join(sorted(population.filters))}")
    handler = HANDLERS.get(job.handler)
    if handler is None:
        tell("handler", f"must be one of {', '.join(HANDLERS)}")
    elif population is not None and job.population not in handler.populations:
        tell("handler", f"{job.handler} works on {', '.join(sorted(handler.populations))}")


def _check_modes(job: pb.Job, tell: Tell) -> None:
    if job.rollout_percent not in (0, 100):
        tell("rollout_percent", "must be 100 or left out: other shares are not there yet")
    if job.mode not in (pb.MODE_UNSPECIFIED, pb.MODE_LIVE):
        tell("mode", f"is {job.mode}, which is no mode of this api")


def _read_overlap(job: pb.Job, cadence: Cadence, tell: Tell) -> Overlap:
    overlap = _OVERLAPS.get(job.overlap)
    if overlap is None:
        tell("overlap", f"is {job.overlap}, which is no overlap of this api")
        return Overlap.QUEUE
    if overlap is not Overlap.QUEUE and not selects_all(cadence.offsets, cadence.bin_max):
        tell("overlap", f"must be queue: with {overlap} the bins of a run that is skipped miss their turn")
    return overlap


def _check_bins(cadence: Cadence, allow_skew: bool, bin_space: int, tell: Tell) -> None:
    found = skew(bin_space, cadence.bin_max)
    if not found.is_even and not allow_skew:
        tell(
            "cadence",
            f"bin_max {cadence.bin_max} does not divide the bin space {bin_space}: a bin has "
            f"{100 * found.smallest_share:.3f} to {100 * found.largest_share:.3f} % of the members"
            + (f", and {found.empty_bins} bins have none" if found.empty_bins else "")
            + ". Choose a divisor, or set allow_skew",
        )


def _read_window(job: pb.Job, cadence: Cadence, tell: Tell) -> tuple[int, int]:
    period = cadence.period_hours * 60
    if not job.HasField("window"):
        return 0, period
    if not 0 <= job.window.start_minutes < period:
        tell("window.start_minutes", f"must be from 0 to {period - 1}, within the period")
    if not 1 <= job.window.length_minutes <= period:
        tell("window.length_minutes", f"must be from 1 to {period}, the length of the period")
    return job.window.start_minutes, job.window.length_minutes


def _read_sizes(job: pb.Job, tell: Tell) -> tuple[int, int]:
    handler = HANDLERS.get(job.handler)
    if handler is None:
        return 0, 0  # the right value is not known
    most = handler.max_batch
    batch = job.batch or most
    slot_size = job.slot_size or 2 * batch
    if not 1 <= batch <= most:
        tell("batch", f"must be from 1 to {most}, or 0 for that")
    elif not 1 <= slot_size <= _MOST_SLOT_SIZE or slot_size % batch:
        tell("slot_size", f"must be a multiple of the batch, {batch}, up to {_MOST_SLOT_SIZE}")
    return batch, slot_size


def _check_costs(costs: Mapping[str, int], quotas: Mapping[str, int], tell: Tell) -> None:
    for name, units in sorted(costs.items()):
        if name not in quotas:
            tell("quotas", f"there is no quota {name!r}; put it first")
        elif not 1 <= units <= quotas[name]:
            tell(
                "quotas",
                f"a batch may cost 1 to {quotas[name]} of {name}, "
                f"its limit less the protected share, and not {units}",
            )


def _check_sla(definition: Definition) -> None:
    """An item may be as old as the largest gap, plus the window that its place in a run may move in (T000-35)."""
    oldest = cadences.largest_gap(definition.cadence) + definition.length
    if timedelta(hours=definition.sla_hours) < oldest:
        hours = oldest / timedelta(hours=1)
        raise InvalidRequest(
            [
                Violation(
                    "job.sla_hours",
                    f"must be at least {hours:g}: the largest gap of the cadence plus the window",
                )
            ]
        )
