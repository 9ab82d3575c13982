"""Slots that workers give back, and leases that they keep longer."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any

import structlog

from libs.stores.transactions import transaction
from services.scheduler import slots
from services.scheduler.metrics import Metrics
from services.scheduler.payments import Payments
from services.scheduler.settings import SchedulerSettings
from services.scheduler.slots import Slot, State
from services.scheduler.timekeeper import Timekeeper
from services.scheduler.wakeups import notify
from tally.contract.backoff import Backoff
from tally.contract.errors import InvalidRequest, Violation

_LOGGER = structlog.get_logger(__name__)

_JOB_OF = "select job_id from scheduler.sync_slot where run_id = $1 and number = $2"
_LOCK_JOB = "select rest_failures from scheduler.sync_job where job_id = $1 for update"
_REST = "update scheduler.sync_job set rest_until = $2, rest_failures = rest_failures + 1 where job_id = $1"
_RESTS_UNTIL = "select rest_until from scheduler.sync_job where job_id = $1"

_REST_TIMES = Backoff(first_s=1.0, longest_s=300.0)


class Reason(Enum):
    """Why a slot is given back."""

    NOT_SENT = auto()
    CALL_FAILED = auto()
    QUOTA_EXCEEDED = auto()
    TOO_MANY_REQUESTS = auto()


@dataclass(frozen=True, slots=True)
class Return:
    """A slot that is given back at the batch that was not reported."""

    slot: str
    token: int
    reason: Reason
    quota: str = ""
    """empty: all of the job's"""
    retry_after_seconds: float = 0.0
    detail: str = ""


def rest_seconds(failures: int) -> float:
    """How long a job rests after this number of consecutive calls that failed as a whole."""
    return _REST_TIMES.cap_s(failures - 1)


class Returns:
    """Takes slots back."""

    def __init__(
        self,
        pool: Any,
        timekeeper: Timekeeper,
        payments: Payments,
        settings: SchedulerSettings,
        metrics: Metrics,
    ) -> None:
        self._pool = pool
        self._timekeeper = timekeeper
        self._payments = payments
        self._settings = settings
        self._metrics = metrics

    async def extend(self, slot_id: str, token: int) -> float:
        """Keep a lease longer; how many seconds it lasts from now.

        It does not grow beyond the time limit of its batch. Raises LeaseLost, also for a lease that has expired.
        """
        async with transaction(self._pool) as connection:
            slot = await slots.lock(connection, slot_id, token)
            now = self._timekeeper.now()
            if slot.state is not State.LEASED or slot.due_at <= now:
                raise slots.lost()
            began = slot.paid_at or slot.leased_at or now
            send_within = await self._payments.send_within_of(connection, slot.definition.quotas)
            latest = began + timedelta(seconds=send_within) + slot.definition.batch_limit
            until = max(slot.due_at, min(now + timedelta(seconds=self._settings.lease_seconds), latest))
            if until > slot.due_at:
                await slots.extend(connection, slot, until)
        return (until - now).total_seconds()

    async def give_back(self, returned: Return) -> bool:
        """Queue a slot again; whether it was given back under this token before. Raises LeaseLost."""
        async with transaction(self._pool) as connection:
            if returned.reason is Reason.CALL_FAILED:  # locks of jobs come before those of slots
                await _lock_job(connection, returned.slot)
            slot = await slots.lock(connection, returned.slot, returned.token)
            if slot.state is not State.LEASED:
                return True
            now = self._timekeeper.now()
            due_at = await self._settle(connection, slot, returned, now)
            failed = returned.reason in (Reason.CALL_FAILED, Reason.TOO_MANY_REQUESTS)
            await slots.end_lease(connection, slot, State.QUEUED, due_at, now, failed=failed)
            if due_at <= now:
                await notify(connection)
        self._metrics.lease_ended(slot.job, returned.reason.name.lower())
        if returned.reason is not Reason.NOT_SENT:
            _LOGGER.warning(
                "slot given back; it will be leased again",
                job=slot.job,
                slot=slot.id,
                reason=returned.reason.name,
                detail=returned.detail,
                due=due_at.isoformat(),
            )
        return False

    async def _settle(self, connection: Any, slot: Slot, returned: Return, now: datetime) -> datetime:
        """What else follows; when the slot is due again."""
        costs = slot.definition.quotas
        names = [returned.quota] if returned.quota else sorted(costs)
        if returned.quota and returned.quota not in costs:
            raise InvalidRequest(
                [Violation("quota", f"must be one of the job's: {', '.join(sorted(costs))}")]
            )
        match returned.reason:
            case Reason.NOT_SENT:
                if slot.paid_at is not None:
                    await self._payments.give_back(connection, costs, slot.paid_at, forced=slot.is_forced)
                return now
            case Reason.CALL_FAILED:
                return await _rest(connection, slot, now)
            case Reason.QUOTA_EXCEEDED:
                self._metrics.refused("quota_exceeded")
                paid_at = slot.paid_at or now
                return await self._payments.close_used_up(connection, names, paid_at, now, returned.detail)
            case Reason.TOO_MANY_REQUESTS:
                self._metrics.refused("too_many_requests")
                seconds = returned.retry_after_seconds or rest_seconds(slot.failures + 1)
                return await self._payments.close_for(connection, names, seconds, now, returned.detail)


async def _lock_job(connection: Any, slot_id: str) -> None:
    job_id = await connection.fetchval(_JOB_OF, *slots.read_id(slot_id))
    await connection.fetchrow(_LOCK_JOB, job_id)


async def _rest(connection: Any, slot: Slot, now: datetime) -> datetime:
    """Let the job rest; until when. Calls that were under way together and fail together count as one."""
    rests_until: datetime | None = await connection.fetchval(_RESTS_UNTIL, slot.job_id)
    if rests_until is not None and rests_until > now:
        return rests_until
    until = now + timedelta(seconds=rest_seconds(slot.rest_failures + 1))
    await connection.execute(_REST, slot.job_id, until)
    return until
