"""Reports: the outcomes of a batch are recorded and the next batch is paid, in one transaction (R000-02 to R000-07)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from libs.stores.postgres import reaching_postgres
from libs.stores.transactions import transaction
from services.scheduler import slots
from services.scheduler.leases import Permit
from services.scheduler.members import digest_of
from services.scheduler.metrics import Metrics
from services.scheduler.outcomes import ItemOutcome, Outcome, Place, record
from services.scheduler.payments import Payments
from services.scheduler.settings import SchedulerSettings
from services.scheduler.slots import Slot, State
from services.scheduler.timekeeper import Timekeeper
from services.scheduler.wakeups import notify
from tally.contract.errors import InvalidRequest, Violation

# Apart from the transaction that reported: its lock on the slot came first, and locks of jobs come before those.
_RESTED = """
update scheduler.sync_job set rest_until = null, rest_failures = 0 where job_id = $1 and rest_failures > 0"""


@dataclass(frozen=True, slots=True)
class Report:
    """A worker's report of a batch."""

    slot: str
    token: int
    begin_key: str
    items: Sequence[ItemOutcome]
    is_last: bool = False
    """no next batch is wanted"""


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a report."""

    state: State
    recorded: int = 0
    permit: Permit | None = None
    lease_seconds: float = 0.0
    is_repeated: bool = False


@dataclass(frozen=True, slots=True)
class _Next:
    """What becomes of the slot: the state, since when its next batch is paid, and until when it is leased or waits."""

    state: State
    until: datetime
    permit: Permit | None = None


class Reports:
    """Takes reports."""

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

    async def report(self, report: Report) -> Answer:
        """Record a batch, once. The same report again is answered as recorded (R000-03).

        Raises LeaseLost when the lease is not in force any more, InvalidRequest when the items are not those of the
        batch, and Unavailable; the same report may be sent again after the last.
        """
        async with transaction(self._pool) as connection:
            slot = await slots.lock(connection, report.slot, report.token)
            if slot.last is not None and report.begin_key == str(slot.last):
                return await self._answer_again(connection, slot)
            if slot.state is not State.LEASED:
                raise slots.lost()
            _check(report, slot)
            now = await self._timekeeper.certain_now()
            then = await self._go_on(connection, slot, report, now)
            place = Place(slot.run_id, slot.run_day, slot.job_id, slot.definition.population, slot.try_number)
            recorded = await record(connection, place, report.items, now)
            counts = Counter(item.outcome for item in report.items)
            paid_at = now if then.permit is not None else None
            await slots.advance(connection, slot, paid_at, then.until, [counts[kind] for kind in Outcome])
            if then.state is not State.LEASED:
                await slots.end_lease(connection, slot, then.state, then.until, now)
            if slot.is_forced or (then.state is State.QUEUED and then.until <= now):
                await notify(connection)
        await self._note(slot, then.state, recorded)
        seconds = self._settings.lease_seconds if then.permit is not None else 0.0
        return Answer(then.state, recorded.total(), then.permit, seconds)

    async def _go_on(self, connection: Any, slot: Slot, report: Report, now: datetime) -> _Next:
        """Pay the next batch, if there is one that may be sent."""
        if len(slot.ends.ids) <= 1:
            return _Next(State.QUEUED if slot.ends.has_rest else State.DONE, now)
        # An expired lease gets no next batch (R000-02), nor one whose run was ended (R000-12) or whose job is paused.
        if report.is_last or slot.due_at <= now or not slot.is_run_open or slot.is_job_paused:
            return _Next(State.QUEUED, now)
        paid_at = self._timekeeper.monotonic()
        payment = await self._payments.pay(connection, slot.definition.quotas, now, forced=slot.is_forced)
        if payment.payable_at is not None:
            return _Next(State.QUEUED, payment.payable_at)
        permit = Permit(paid_at, payment.send_within_seconds)
        return _Next(State.LEASED, now + timedelta(seconds=self._settings.lease_seconds), permit)

    async def _answer_again(self, connection: Any, slot: Slot) -> Answer:
        if slot.state is not State.LEASED:
            return Answer(slot.state, is_repeated=True)
        send_within = await self._payments.send_within_of(connection, slot.definition.quotas)
        seconds = max(0.0, (slot.due_at - self._timekeeper.now()).total_seconds())
        return Answer(State.LEASED, 0, Permit(None, send_within), seconds, is_repeated=True)

    async def _note(self, slot: Slot, state: State, recorded: Counter[Outcome]) -> None:
        for outcome, count in recorded.items():
            self._metrics.recorded(slot.job, outcome.name.lower(), count)
        if state is State.LEASED:
            self._metrics.paid(slot.definition.quotas)
        else:
            self._metrics.lease_ended(slot.job, state)
        if slot.rest_failures:
            with reaching_postgres():
                await self._pool.execute(_RESTED, slot.job_id)


def _check(report: Report, slot: Slot) -> None:
    """Raises InvalidRequest unless the report is of the slot's next batch, and of each of its items once."""
    if report.begin_key != str(slot.next):
        raise InvalidRequest(
            [
                Violation(
                    "begin_key",
                    "must be the begin_key of the slot's next batch: batches are reported in order",
                )
            ]
        )
    ids = [item.id for item in report.items]
    if len(set(ids)) < len(ids):
        raise InvalidRequest([Violation("items", "must not name an item twice")])
    if digest_of(ids) != slot.ends.digests[0]:
        raise InvalidRequest(
            [
                Violation(
                    "items",
                    "must name each item of the batch once, and no others; give the slot back instead",
                )
            ]
        )
