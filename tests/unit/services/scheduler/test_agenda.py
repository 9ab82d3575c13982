"""What a look at the jobs says is due, and when to look again; and how long things rest."""

from datetime import UTC, datetime, timedelta
from typing import Any

from services.scheduler.lanes import FORCED, LANES, RETRY, SCHEDULED, lanes_in_turn
from services.scheduler.outcomes import backoff_seconds
from services.scheduler.ticker import read_agenda

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
POLL_AT = NOW + timedelta(seconds=1)


def row(
    number: int,
    *,
    plan: float = 3600,
    slot: float | None = None,
    rest: float | None = None,
    retry: float | None = None,
    **rest_of: Any,
) -> Any:
    """A job's row; times are seconds from now."""
    return {
        "job_id": number,
        "name": f"job_{number}",
        "is_active": True,
        "next_plan_at": NOW + timedelta(seconds=plan),
        "slot_due_at": None if slot is None else NOW + timedelta(seconds=slot),
        "retry_due_at": None if retry is None else NOW + timedelta(seconds=retry),
        "rest_until": None if rest is None else NOW + timedelta(seconds=rest),
        "has_ended_run": False,
        "has_ending_run": False,
        "paced_until": None,
        "forced_due_at": None,
        "expires_at": None,
        **rest_of,
    }


def test_without_jobs_the_next_look_is_the_next_poll() -> None:
    agenda = read_agenda([], NOW, POLL_AT)
    assert (agenda.to_plan, agenda.to_lease, agenda.has_ended_run, agenda.next_at) == ([], [], False, POLL_AT)


def test_jobs_are_planned_in_the_order_in_which_they_became_due() -> None:
    agenda = read_agenda([row(1, plan=-1), row(2, plan=-5), row(3, plan=0), row(4, plan=0.5)], NOW, POLL_AT)
    assert [job_id for job_id, _ in agenda.to_plan] == [2, 1, 3]
    assert agenda.next_at == NOW + timedelta(seconds=0.5)


def test_slots_are_due_when_their_job_does_not_rest() -> None:
    rows = [row(1, slot=-1), row(2, slot=-1, rest=0.25), row(3, slot=0.75), row(4, slot=-1, is_active=False)]
    agenda = read_agenda(rows, NOW, POLL_AT)
    assert [each["job_id"] for each in agenda.to_lease] == [1]
    assert agenda.next_at == NOW + timedelta(seconds=0.25)


def test_items_are_tried_again_in_the_order_in_which_they_became_due() -> None:
    rows = [row(1, retry=-1), row(2, retry=-5), row(3, retry=0.5), row(4), row(5, retry=-1, is_active=False)]
    agenda = read_agenda(rows, NOW, POLL_AT)
    assert [job_id for job_id, _ in agenda.to_retry] == [2, 1]
    assert agenda.next_at == NOW + timedelta(seconds=0.5)


def test_every_fourth_lease_looks_for_retries_first() -> None:
    first = [lanes_in_turn(turn)[0] for turn in range(8)]
    assert first == [SCHEDULED, SCHEDULED, SCHEDULED, RETRY] * 2
    assert all({*lanes_in_turn(turn), FORCED} == set(LANES) for turn in range(4))


def test_a_backoff_doubles_up_to_five_minutes_and_has_full_jitter() -> None:
    """000-32, T000-17"""
    assert [backoff_seconds(number, 1.0) for number in range(5)] == [75, 150, 300, 300, 300]
    assert backoff_seconds(3, 0.0) == 0
