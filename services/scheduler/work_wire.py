"""Work on the wire: what workers send, checked, and leases as they get them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from services.scheduler.job_rules import check_name
from services.scheduler.leases import Ask, Lease, Permit
from services.scheduler.outcomes import ItemOutcome, Outcome
from services.scheduler.populations import POPULATIONS
from services.scheduler.reports import Answer, Report
from services.scheduler.returns import Reason, Return
from services.scheduler.slots import State
from tally.contract import rules
from tally.contract.errors import InvalidRequest, Violation
from tally.scheduler.v1 import work_pb2 as pb

_REASONS: Mapping[int, Reason] = {
    pb.GIVE_BACK_REASON_NOT_SENT: Reason.NOT_SENT,
    pb.GIVE_BACK_REASON_CALL_FAILED: Reason.CALL_FAILED,
    pb.GIVE_BACK_REASON_QUOTA_EXCEEDED: Reason.QUOTA_EXCEEDED,
    pb.GIVE_BACK_REASON_TOO_MANY_REQUESTS: Reason.TOO_MANY_REQUESTS,
}
_STATES: Mapping[State, pb.SlotState] = {
    State.LEASED: pb.SLOT_STATE_LEASED,
    State.QUEUED: pb.SLOT_STATE_QUEUED,
    State.DONE: pb.SLOT_STATE_DONE,
}
_OUTCOMES: frozenset[int] = frozenset(Outcome)
_SUCCESSES: frozenset[int] = frozenset({Outcome.SYNCED, Outcome.UNCHANGED})
_MOST_HANDLERS = 100
_MOST_WAIT_SECONDS = 20.0
_MOST_RETRY_SECONDS = 3_600.0
_MOST_ITEM_RETRY_SECONDS = 7 * 24 * 3_600.0
_MOST_DETAIL = 500
_MOST_TEXT_BYTES = 8_192
_MOST_COUNT = 2**62
_COLUMNS = frozenset().union(*(population.columns for population in POPULATIONS.values()))
_TEXTS = ("title", "channel_id", "etag")
_COUNTS = ("duration_seconds", "view_count", "like_count", "comment_count")


def read_ask(request: pb.LeaseSlotRequest) -> Ask:
    """The worker that asks, and its handlers. Raises InvalidRequest."""
    violations = []
    if problem := rules.check_video_id(request.worker):
        violations.append(Violation("worker", problem))
    if not 1 <= len(request.handlers) <= _MOST_HANDLERS:
        violations.append(Violation("handlers", f"must be 1 to {_MOST_HANDLERS}"))
    for number, handler in enumerate(request.handlers):
        if problem := check_name(handler.name):
            violations.append(Violation(f"handlers[{number}].name", problem))
        if unknown := sorted(set(handler.columns) - _COLUMNS):
            violations.append(
                Violation(f"handlers[{number}].columns", f"{unknown[0]} is a column of no population")
            )
    if violations:
        raise InvalidRequest(violations)
    return Ask(
        request.worker,
        request.request_number,
        {handler.name: tuple(handler.columns) for handler in request.handlers},
    )


def read_wait(seconds: float) -> float:
    """How long to wait for a slot. Raises InvalidRequest."""
    if not 0 <= seconds <= _MOST_WAIT_SECONDS:  # false for NaN too
        raise InvalidRequest([Violation("wait_seconds", f"must be from 0 to {_MOST_WAIT_SECONDS:g}")])
    return seconds


def lease_of(lease: Lease, began: float) -> pb.Lease:
    """A lease as its worker gets it; `began`: when the call did."""
    slot = lease.slot
    begins = [slot.next, *(batch[-1].key for batch in lease.batches)]  # where the one before ends
    batches = [
        pb.Batch(
            begin_key=str(key),
            items=[
                pb.Item(id=member.key.youtube_id, try_number=slot.try_number, columns=member.columns)
                for member in batch
            ],
        )
        for key, batch in zip(begins, lease.batches, strict=False)
    ]
    return pb.Lease(
        slot=slot.id,
        token=lease.token,
        run_id=slot.run_id,
        job=slot.job,
        handler=slot.definition.handler,
        population=slot.definition.population,
        logical_time=timestamp(slot.logical_at),
        batches=batches,
        permit=permit_of(lease.permit, began),
        lease_seconds=lease.seconds,
        batch_seconds=slot.definition.batch_seconds,
        repeated_answer=lease.is_repeated,
    )


def permit_of(permit: Permit, began: float) -> pb.Permit:
    """A permit as it travels: no clock of one side is compared with one of the other (R000-08)."""
    wait = 0.0 if permit.paid_at is None else max(0.0, permit.paid_at - began)
    return pb.Permit(wait_seconds=wait, send_within_seconds=permit.send_within_seconds)


def read_report(request: pb.ReportItemsRequest) -> Report:
    """A report, each of its items checked. Raises InvalidRequest."""
    violations = [
        Violation(f"items[{number}].{field}", problem)
        for number, item in enumerate(request.items)
        for field, problem in _problems(item)
    ]
    if violations:
        raise InvalidRequest(violations)
    return Report(
        request.slot,
        request.token,
        request.begin_key,
        [_item_of(item) for item in request.items],
        is_last=request.is_last,
    )


def answer_of(answer: Answer, began: float) -> pb.ReportItemsResponse:
    """The result of a report, as it travels."""
    return pb.ReportItemsResponse(
        state=_STATES[answer.state],
        permit=None if answer.permit is None else permit_of(answer.permit, began),
        lease_seconds=answer.lease_seconds,
        recorded_count=answer.recorded,
        repeated_answer=answer.is_repeated,
    )


def read_return(request: pb.CompleteSlotRequest) -> Return:
    """A slot that is given back. Raises InvalidRequest."""
    reason = _REASONS.get(request.reason)
    if reason is None:
        raise InvalidRequest([Violation("reason", "must say why the slot is given back")])
    if not 0 <= request.retry_after_seconds <= _MOST_RETRY_SECONDS:
        raise InvalidRequest([Violation("retry_after_seconds", f"must be from 0 to {_MOST_RETRY_SECONDS:g}")])
    if problem := _check_detail(request.detail):
        raise InvalidRequest([Violation("detail", problem)])
    return Return(
        request.slot, request.token, reason, request.quota, request.retry_after_seconds, request.detail
    )


def timestamp(at: datetime) -> Timestamp:
    """A time as it travels."""
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp


def _problems(item: pb.ItemOutcome) -> list[tuple[str, str]]:
    problems = []
    if item.outcome not in _OUTCOMES:
        problems.append(("outcome", "must say what became of the item"))
    if problem := _check_detail(item.detail):
        problems.append(("detail", problem))
    if not 0 <= item.retry_after_seconds <= _MOST_ITEM_RETRY_SECONDS:
        problems.append(("retry_after_seconds", f"must be from 0 to {_MOST_ITEM_RETRY_SECONDS:g}"))
    if item.HasField("video_metadata"):
        if item.outcome not in _SUCCESSES:
            problems.append(("video_metadata", "may come with SYNCED and UNCHANGED only"))
        problems.extend(
            (f"video_metadata.{name}", problem) for name, problem in _check_video(item.video_metadata)
        )
    return problems


def _check_detail(detail: str) -> str | None:
    fits = len(detail) <= _MOST_DETAIL and "\0" not in detail
    return None if fits else f"must be at most {_MOST_DETAIL} characters, without NUL"


def _check_video(video: pb.VideoMetadata) -> list[tuple[str, str]]:
    problems = [
        (name, f"must be at most {_MOST_TEXT_BYTES} bytes, without NUL")
        for name in _TEXTS
        if "\0" in (text := getattr(video, name)) or len(text.encode()) > _MOST_TEXT_BYTES
    ]
    problems += [
        (name, f"must be from 0 to {_MOST_COUNT}")
        for name in _COUNTS
        if not 0 <= getattr(video, name) <= _MOST_COUNT
    ]
    if video.HasField("publish_time") and _time_of(video.publish_time) is None:
        problems.append(("publish_time", "must be a time from the year 1 to 9999"))
    return problems


def _item_of(item: pb.ItemOutcome) -> ItemOutcome:
    data: dict[str, Any] = {}
    if item.HasField("video_metadata"):
        video = item.video_metadata
        data = {name: getattr(video, name) for name in (*_TEXTS, *_COUNTS) if video.HasField(name)}
        if video.HasField("publish_time"):
            data["published_at"] = _time_of(video.publish_time)
    return ItemOutcome(item.id, Outcome(item.outcome), item.detail, data, item.retry_after_seconds)


def _time_of(stamp: Timestamp) -> datetime | None:
    try:
        return stamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
