"""Leases: a slot that is due goes to a worker that asks, with its first batch paid (R000-02, R000-05, R000-07)."""

import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from libs.stores.postgres import reaching_postgres
from libs.stores.transactions import transaction
from services.scheduler import slots
from services.scheduler.lanes import FORCED, LANES, SCHEDULED, lanes_in_turn
from services.scheduler.members import Items, Member, Range, digest_of, read_members
from services.scheduler.metrics import Metrics
from services.scheduler.pace import OVERDUE, keep_pace, read_paces, return_pace
from services.scheduler.payments import Payments, read_budget
from services.scheduler.populations import POPULATIONS
from services.scheduler.settings import SchedulerSettings
from services.scheduler.slots import Ends, Slot, State
from services.scheduler.timekeeper import Timekeeper
from services.scheduler.wakeups import Bell

# Says too whether it is worth to look further: idle workers should cost next to nothing.
_ASK = """
with seen as (
    insert into scheduler.sync_worker (name, handlers, created_at, asked_at) values ($1, $2, $3, $3)
    on conflict (name) do update set handlers = excluded.handlers, asked_at = excluded.asked_at
)
select exists (select from scheduler.sync_slot where worker = $1 and request_number = $4 and state = 'leased')
    or exists (select from scheduler.sync_run where state in ('planned', 'running') and handler = any($2))"""
# Jobs that have something to lease.
_JOBS = """
select job_id, quotas, state = 'active' as is_active,
    exists (select from scheduler.sync_slot as slot where slot.job_id = job.job_id and slot.lane = $4
        and slot.state in ('queued', 'leased') and slot.due_at <= $1) as has_forced
from scheduler.sync_job as job
where (rest_until is null or rest_until <= $1)
    and exists (select from scheduler.sync_slot as slot where slot.job_id = job.job_id and slot.lane = any($3)
        and slot.state in ('queued', 'leased') and slot.due_at <= $1)
    and exists (select from scheduler.sync_run as run where run.job_id = job.job_id
        and run.state in ('planned', 'running') and run.handler = any($2))
order by job_id"""
# Apart from the transaction that leased: its lock on the slot came first, and locks of runs come before those.
_STARTED = """
update scheduler.sync_run set state = 'running', started_at = $2 where run_id = $1 and state = 'planned'"""


@dataclass(frozen=True, slots=True)
class Ask:
    """A worker's request for a slot."""

    worker: str
    request_number: int
    handlers: Mapping[str, Sequence[str]]
    """the columns that each of them needs"""

    @property
    def key(self) -> tuple[str, int]:
        """The same in a request that is repeated."""
        return self.worker, self.request_number


@dataclass(frozen=True, slots=True)
class Permit:
    """The right to send a batch: when it was paid, by this process's monotonic clock, and how long it is good."""

    paid_at: float | None
    """None: in a repeated answer, where it is no longer known"""
    send_within_seconds: float


@dataclass(frozen=True, slots=True)
class Lease:
    """A slot that was leased."""

    slot: Slot
    token: int
    batches: Sequence[Sequence[Member]]
    permit: Permit
    seconds: float
    """how long the lease lasts, from the payment on"""
    is_repeated: bool


class _Settled:
    """A slot was settled without a lease; there may be another."""


class Leases:
    """Leases slots."""

    def __init__(
        self,
        pool: Any,
        timekeeper: Timekeeper,
        payments: Payments,
        settings: SchedulerSettings,
        metrics: Metrics,
        due: Bell,
    ) -> None:
        """`due` rings when a slot may have become due."""
        self._pool = pool
        self._timekeeper = timekeeper
        self._payments = payments
        self._settings = settings
        self._metrics = metrics
        self._due = due
        self._turns = itertools.count()
        self._last_turn: dict[int, int] = {}
        """of each job: when it had its turn; each scheduler has turns of its own, which is fair enough"""
        self._leases_of: Counter[int] = Counter()
        """of each job: how many there were, for the turns of its lanes"""

    async def lease(self, ask: Ask, wait_seconds: float) -> Lease | None:
        """A slot, or None if none was due for so long. Raises Unavailable; the same request may be sent again then."""
        deadline = self._timekeeper.monotonic() + wait_seconds
        rung = self._due.count
        with reaching_postgres():
            is_worth_it = await self._pool.fetchval(
                _ASK, ask.worker, sorted(ask.handlers), self._timekeeper.now(), ask.request_number
            )
        while True:
            if is_worth_it and (lease := await self._try(ask)) is not None:
                return lease
            remaining = deadline - self._timekeeper.monotonic()
            if remaining <= 0:
                return None
            await self._due.wait(rung, remaining)
            is_worth_it, rung = self._due.count != rung, self._due.count

    async def _try(self, ask: Ask) -> Lease | None:
        """Lease what there is now; slots that turn out to be empty, or cannot be paid, are settled on the way."""
        while True:
            async with transaction(self._pool) as connection:
                attempt = await self._try_once(connection, ask)
            if attempt is None or isinstance(attempt, Lease):
                break
        if attempt is not None and not attempt.is_repeated:
            await self._note(attempt)
        return attempt

    async def _try_once(self, connection: Any, ask: Ask) -> Lease | _Settled | None:
        now = await self._timekeeper.certain_now()
        slot = await slots.find_requested(connection, *ask.key)
        if slot is not None:
            return await self._repeat(connection, slot, ask, now)
        paces = await read_paces(connection, now) if self._settings.catchup_rate else {}
        for job_id, lanes in await self._jobs_in_turn(connection, ask, now):
            due_from = now - OVERDUE if job_id in paces else None
            for lane in lanes:
                slot = await slots.take(
                    connection,
                    job_id,
                    lane,
                    now,
                    sorted(ask.handlers),
                    due_from if lane == SCHEDULED else None,
                )
                if slot is not None:
                    if not slot.is_forced:
                        self._last_turn[job_id] = next(self._turns)
                        self._leases_of[job_id] += 1
                    return await self._lease(connection, slot, ask, now)
        return None

    async def _jobs_in_turn(
        self, connection: Any, ask: Ask, now: datetime
    ) -> list[tuple[int, tuple[int, ...]]]:
        """The jobs with something to lease that could be paid, with the lanes to look into.

        First those with forced slots, then the one whose turn is longest ago.
        """
        jobs = await connection.fetch(_JOBS, now, sorted(ask.handlers), list(LANES), FORCED)
        if not jobs:
            return []
        budget = await read_budget(connection, now)
        costs = {job["job_id"]: json.loads(job["quotas"]) for job in jobs}
        forced = [
            job["job_id"]
            for job in jobs
            if job["has_forced"] and budget.affords(costs[job["job_id"]], forced=True)
        ]
        others = [job["job_id"] for job in jobs if job["is_active"] and budget.affords(costs[job["job_id"]])]
        others.sort(key=lambda job_id: self._last_turn.get(job_id, -1))
        return [
            *((job_id, (FORCED,)) for job_id in forced),
            *((job_id, lanes_in_turn(self._leases_of[job_id])) for job_id in others),
        ]

    async def _lease(self, connection: Any, slot: Slot, ask: Ask, now: datetime) -> Lease | _Settled:
        """Read the slot, pay its first batch, and lease it. An empty slot is done; one that cannot be paid waits."""
        batches, ends = await self._read(connection, slot, ask)
        if not batches:
            await slots.end_lease(connection, slot, State.DONE, now, now)
            return _Settled()
        paid_at = self._timekeeper.monotonic()
        now = await self._timekeeper.certain_now()
        members, rate = sum(map(len, batches)), self._settings.catchup_rate
        if not await keep_pace(connection, slot, members, rate, now):
            return _Settled()
        payment = await self._payments.pay(connection, slot.definition.quotas, now, forced=slot.is_forced)
        if payment.payable_at is not None:
            await return_pace(connection, slot, members, rate)
            await slots.postpone(connection, slot, payment.payable_at)
            return _Settled()
        seconds = self._settings.lease_seconds
        until = now + timedelta(seconds=seconds)
        await slots.lease(connection, slot, until, ask.key, now, ends)
        permit = Permit(paid_at, payment.send_within_seconds)
        return Lease(slot, slot.token + 1, batches, permit, seconds, is_repeated=False)

    async def _repeat(self, connection: Any, slot: Slot, ask: Ask, now: datetime) -> Lease:
        """The lease that was given before: nothing is paid (R000-05). Its members are read again, as they are now."""
        batches, ends = await self._read(connection, slot, ask)
        if batches:  # else they have all gone since; the batch is reported as it was
            await slots.set_ends(connection, slot, ends)
        send_within = await self._payments.send_within_of(connection, slot.definition.quotas)
        seconds = max(0.0, (slot.due_at - now).total_seconds())
        return Lease(slot, slot.token, batches, Permit(None, send_within), seconds, is_repeated=True)

    async def _read(self, connection: Any, slot: Slot, ask: Ask) -> tuple[list[list[Member]], Ends]:
        """At most `slot_size` members from the slot's next key on, in batches."""
        definition, members = slot.definition, self._members_of(slot)
        columns = ask.handlers.get(definition.handler, ())
        found = await read_members(connection, members, columns, definition.slot_size + 1)
        kept = found[: definition.slot_size]
        size = definition.batch
        batches = [kept[start : start + size] for start in range(0, len(kept), size)]
        return batches, Ends(
            [batch[-1].key.sync_bin for batch in batches],
            [batch[-1].key.youtube_id for batch in batches],
            [digest_of([member.key.youtube_id for member in batch]) for batch in batches],
            has_rest=len(found) > len(kept),
        )

    def _members_of(self, slot: Slot) -> Range | Items:
        """The members of a slot from its next key on."""
        definition = slot.definition
        population = POPULATIONS[definition.population]
        if slot.item_ids is not None:
            return Items(population, definition.where, slot.item_ids, slot.next)
        return Range(
            population,
            definition.where,
            slot.bin_numbers,
            slot.bin_max,
            self._settings.bin_space,
            slot.next,
            slot.upper,
        )

    async def _note(self, lease: Lease) -> None:
        slot = lease.slot
        late = (self._timekeeper.now() - slot.planned_at).total_seconds()
        self._metrics.leased(slot.job, late if slot.token == 0 else None)
        self._metrics.paid(slot.definition.quotas)
        if slot.run_state == "planned":
            with reaching_postgres():
                await self._pool.execute(_STARTED, slot.run_id, self._timekeeper.now())
