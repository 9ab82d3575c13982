"""Jobs, runs, workers and quotas on the wire."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from google.protobuf.timestamp_pb2 import Timestamp

from libs.domain.cadence import largest_gap
from libs.domain.quota_day import day_of, find_zone, reset_after
from services.scheduler.definition import Definition
from services.scheduler.forced import Forced
from services.scheduler.job_rules import check_name
from services.scheduler.outcomes import Outcome
from services.scheduler.quota_rows import QuotaDefinition
from services.scheduler.work_wire import timestamp
from tally.contract import rules
from tally.contract.errors import InvalidRequest, Violation
from tally.scheduler.v1 import job_pb2 as pb

_HOUR = timedelta(hours=1)
_MOST_UNITS = 2**53
_MOST_ITEMS = 1_000
_MOST_REASON = 1_000
_PROTECTED_PERCENT, _MOST_PROTECTED_PERCENT = 10, 50
_SEND_WITHIN_SECONDS, _MOST_SEND_WITHIN_SECONDS = 10.0, 60.0


def read_request_id(text: str) -> uuid.UUID:
    """The id of a request. Raises InvalidRequest."""
    try:
        return uuid.UUID(text)
    except ValueError as error:
        raise InvalidRequest(
            [Violation("request_id", "must be a UUID, made once and sent with each repetition")]
        ) from error


def read_reason(text: str) -> str:
    """Why a job is paused. Raises InvalidRequest."""
    reason = text.strip()
    if not 1 <= len(reason) <= _MOST_REASON:
        raise InvalidRequest([Violation("reason", f"must say why, in at most {_MOST_REASON:,} characters")])
    return reason


def read_items(item_ids: Sequence[str], field: str = "") -> list[str]:
    """The ids of items; `field` names that of a single one. Raises InvalidRequest."""
    if not 1 <= len(item_ids) <= _MOST_ITEMS:
        raise InvalidRequest([Violation("item_ids", f"must be 1 to {_MOST_ITEMS:,}")])
    wrong = [
        Violation(field or f"item_ids[{place}]", problem)
        for place, each in enumerate(item_ids)
        if (problem := rules.check_video_id(each))
    ]
    if wrong:
        raise InvalidRequest(wrong)
    return sorted(set(item_ids))


def read_within(seconds: int) -> timedelta:
    """Over how long the slots of a run become due. Raises InvalidRequest."""
    if not 0 <= seconds <= 366 * 86_400:
        raise InvalidRequest(
            [Violation("within_seconds", "must be from 0 to the length of the job's window")]
        )
    return timedelta(seconds=seconds)


def read_run_state(number: int) -> str | None:
    """The state that a list is filtered by, as in the table. Raises InvalidRequest."""
    if number == pb.RUN_STATE_UNSPECIFIED:
        return None
    if number not in pb.RunState.values():
        raise InvalidRequest([Violation("state", f"is {number}, which is no state of this api")])
    return pb.RunState.Name(pb.RunState.ValueType(number)).removeprefix("RUN_STATE_").lower()


def read_time(stamp: Timestamp, field: str) -> datetime:
    """A time. Raises InvalidRequest."""
    try:
        return stamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest([Violation(field, "must be a time from the year 1 to 9999")]) from error


def read_quota(quota: pb.Quota) -> QuotaDefinition:
    """A quota, defaults filled in. Raises InvalidRequest for all that is wrong with it."""
    violations = []

    def tell(field: str, problem: str) -> None:
        violations.append(Violation(f"quota.{field}", problem))

    if problem := check_name(quota.name):
        tell("name", problem)
    percent = quota.protected_percent if quota.HasField("protected_percent") else _PROTECTED_PERCENT
    if not 0 <= percent <= _MOST_PROTECTED_PERCENT:
        tell("protected_percent", f"must be from 0 to {_MOST_PROTECTED_PERCENT}")
    send_within = quota.send_within_seconds or _SEND_WITHIN_SECONDS
    if not 1 <= send_within <= _MOST_SEND_WITHIN_SECONDS:
        tell(
            "send_within_seconds",
            f"must be from 1 to {_MOST_SEND_WITHIN_SECONDS:g}, or 0 for {_SEND_WITHIN_SECONDS:g}",
        )
    if not quota.HasField("units_per_day"):
        tell("units_per_day", "must be set: it is the only kind of quota so far")
    else:
        if not 2 <= quota.units_per_day.limit <= _MOST_UNITS:
            tell("units_per_day.limit", "must be 2 or more: one unit at least is for forced work")
        if find_zone(quota.units_per_day.zone) is None:
            tell("units_per_day.zone", "must be a time zone by its IANA name, such as America/Los_Angeles")
    if violations:
        raise InvalidRequest(violations)
    return QuotaDefinition(
        quota.name, quota.units_per_day.limit, quota.units_per_day.zone, percent, send_within
    )


def job_status_of(row: Any) -> pb.JobStatus:
    """A row of `list_jobs`."""
    definition = Definition.model_validate_json(row["definition"])
    return pb.JobStatus(
        job=job_of(definition),
        state=f"JOB_STATE_{row['state'].upper()}",  # a message takes the name for the number
        next_logical_time=timestamp(row["next_logical_at"]),
        next_plan_time=timestamp(row["next_plan_at"]),
        open_run_count=row["open_runs"],
        rest_until_time=_optional(row["rest_until"]),
        warnings=row["warnings"],
        state_reason=row["reason"],
        largest_gap_hours=largest_gap(definition.cadence) / _HOUR,
    )


def job_of(definition: Definition) -> pb.Job:
    """A definition with its defaults."""
    cadence = pb.Cadence(phase=definition.phase)
    if definition.preset:
        cadence.preset = definition.preset
    else:
        cadence.period.CopyFrom(
            pb.Period(
                period_hours=definition.period_hours, bin_max=definition.bin_max, offsets=definition.offsets
            )
        )
    return pb.Job(
        name=definition.name,
        rationale=definition.rationale,
        sla_hours=definition.sla_hours,
        population=definition.population,
        where=definition.where,
        handler=definition.handler,
        cadence=cadence,
        window=pb.Window(start_minutes=definition.start_minutes, length_minutes=definition.length_minutes),
        batch=definition.batch,
        slot_size=definition.slot_size,
        batch_seconds=definition.batch_seconds,
        quotas=definition.quotas,
        catchup_hours=definition.catchup_hours,
        overlap=f"OVERLAP_{definition.overlap.upper()}",
        rollout_percent=100,
        mode=pb.MODE_LIVE,
        allow_skew=definition.allow_skew,
    )


def run_of(row: Any) -> pb.Run:
    """A row of `list_runs`."""
    return pb.Run(
        id=row["run_id"],
        job=row["job"],
        logical_time=timestamp(row["logical_at"]),
        repeat=row["repeat"],
        state=f"RUN_STATE_{row['state'].upper()}",
        reason=row["reason"],
        open_time=timestamp(row["opens_at"]),
        close_time=timestamp(row["closes_at"]),
        plan_time=timestamp(row["planned_at"]),
        start_time=_optional(row["started_at"]),
        end_time=_optional(row["ended_at"]),
        bin_numbers=row["bin_numbers"],
        bin_max=row["bin_max"],
        member_count=row["members"],
        slot_count=row["slots"],
        done_slot_count=row["done_slots"],
        outcomes=pb.OutcomeCounts(
            synced=row["synced"],
            unchanged=row["unchanged"],
            gone=row["gone"],
            retry=row["retry"],
            failed=row["failed"],
        ),
        last_skipped_time=_optional(row["skipped_until"]),
        skipped_count=row["skipped"],
        unreached_count=row["unreached"],
    )


def forced_of(forced: Forced) -> pb.ForceSyncResponse:
    """A forced sync."""
    return pb.ForceSyncResponse(
        run_id=forced.run_id,
        state=f"FORCED_STATE_{forced.state.upper()}",
        outcome=None if forced.outcome is None else f"OUTCOME_{forced.outcome.name}",
        detail=forced.detail,
        due_time=_optional(forced.due_at),
    )


def letter_of(row: Any) -> pb.DeadLetter:
    """A row of `list_letters`."""
    return pb.DeadLetter(
        item_id=row["item_id"],
        run_id=row["run_id"],
        try_count=row["tries"],
        failed_for_good=row["outcome"] == Outcome.FAILED,
        detail=row["detail"],
        create_time=timestamp(row["created_at"]),
        update_time=timestamp(row["changed_at"]),
    )


def worker_of(row: Any) -> pb.Worker:
    """A row of `list_workers`."""
    return pb.Worker(
        name=row["name"],
        handlers=row["handlers"],
        create_time=timestamp(row["created_at"]),
        ask_time=timestamp(row["asked_at"]),
        lease_count=row["leases"],
    )


def quota_status_of(row: Any, uses: Sequence[Any], now: datetime) -> pb.QuotaStatus:
    """A row of `list_quotas`, with what is used of it today."""
    zone = ZoneInfo(row["zone"])
    today = day_of(now, zone)
    use: Mapping[str, int] = next(
        (use for use in uses if use["quota"] == row["name"] and use["day"] == today),
        {"used": 0, "forced": 0},
    )
    closed = row["closed_until"] is not None and row["closed_until"] > now
    return pb.QuotaStatus(
        quota=pb.Quota(
            name=row["name"],
            units_per_day=pb.UnitsPerDay(limit=row["limit_units"], zone=row["zone"]),
            protected_percent=row["protected_percent"],
            send_within_seconds=row["send_within_seconds"],
        ),
        day=today.isoformat(),
        used_units=use["used"] + use["forced"],
        forced_units=use["forced"],
        protected_units=row["protected_units"],
        reset_time=timestamp(reset_after(now, zone)),
        closed_until_time=timestamp(row["closed_until"]) if closed else None,
        closed_reason=row["closed_reason"] if closed else "",
    )


def _optional(at: datetime | None) -> Timestamp | None:
    return None if at is None else timestamp(at)
