"""The rows of slots: how a slot is found, read under its lock, and written."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from services.scheduler.definition import Definition
from services.scheduler.lanes import FORCED
from services.scheduler.members import Key
from tally.contract.errors import InvalidRequest, LeaseLost, Violation

_ID = re.compile(r"\d{1,18}/\d{1,9}", re.ASCII)
_COLUMNS = """
    slot.run_id, slot.number, slot.job_id, slot.state, slot.due_at, slot.planned_at, slot.upper_bin, slot.upper_id,
    slot.next_bin, slot.next_id, slot.token, slot.leased_at, slot.paid_at, slot.batch_bins, slot.batch_ids,
    slot.batch_digests, slot.has_rest, slot.last_bin, slot.last_id, slot.failures, slot.try, slot.item_ids, slot.lane,
    run.repeat, run.members as run_members, run.closes_at - run.opens_at as run_length,
    run.definition, run.bin_numbers, run.bin_max, run.logical_at, run.run_day, run.state as run_state,
    job.name as job, job.rest_failures, job.state as job_state
from scheduler.sync_slot as slot join scheduler.sync_run as run using (run_id)
    join scheduler.sync_job as job on job.job_id = slot.job_id"""
# A leased slot is due when its lease expires.
_TAKE = f"""
select {_COLUMNS}
where slot.job_id = $1 and slot.lane = $2 and slot.state in ('queued', 'leased') and slot.due_at <= $3
    and ($5::timestamptz is null or slot.due_at >= $5 or run.repeat > 0)
    and run.state in ('planned', 'running') and run.handler = any($4) and (job.state = 'active' or slot.lane = $6)
order by slot.due_at limit 1 for no key update of slot skip locked"""
_REQUESTED = f"""
select {_COLUMNS}
where slot.worker = $1 and slot.request_number = $2 and slot.state = 'leased' for no key update of slot"""
_LOCK = f"select {_COLUMNS} where slot.run_id = $1 and slot.number = $2 for no key update of slot"
_LEASE = """
update scheduler.sync_slot set state = 'leased', token = token + 1, due_at = $3, worker = $4, request_number = $5,
    leased_at = $6, paid_at = $6, batch_bins = $7, batch_ids = $8, batch_digests = $9, has_rest = $10,
    last_bin = null, last_id = null
where run_id = $1 and number = $2"""
_RELEASE_ANSWER = """
update scheduler.sync_slot set batch_bins = $3, batch_ids = $4, batch_digests = $5, has_rest = $6
where run_id = $1 and number = $2"""
_EXTEND = "update scheduler.sync_slot set due_at = $3 where run_id = $1 and number = $2"
_END = """
update scheduler.sync_slot set state = $3, due_at = $4, paid_at = null, batch_bins = '{}', batch_ids = '{}',
    batch_digests = '{}', has_rest = false, failures = failures + $5,
    ended_at = case when $3 = 'done' then $6::timestamptz end
where run_id = $1 and number = $2"""
_POSTPONE = "update scheduler.sync_slot set due_at = $3 where run_id = $1 and number = $2"
_ADVANCE = """
update scheduler.sync_slot set next_bin = $3, next_id = $4, last_bin = next_bin, last_id = next_id,
    batch_bins = batch_bins[2:], batch_ids = batch_ids[2:], batch_digests = batch_digests[2:],
    paid_at = $5, due_at = $6, synced = synced + $7, unchanged = unchanged + $8, gone = gone + $9,
    retry = retry + $10, failed = failed + $11
where run_id = $1 and number = $2"""


class State(StrEnum):
    """What a slot is."""

    QUEUED = "queued"
    LEASED = "leased"
    DONE = "done"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Ends:
    """The batches of a lease: the last key and the digest of each, and whether members follow the last one."""

    bins: Sequence[int]
    ids: Sequence[str]
    digests: Sequence[int]
    has_rest: bool

    @property
    def arguments(self) -> tuple[list[int], list[str], list[int], bool]:
        """For a statement."""
        return list(self.bins), list(self.ids), list(self.digests), self.has_rest


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot whose row is locked, with what its run says."""

    run_id: int
    number: int
    job_id: int
    job: str
    rest_failures: int
    is_job_paused: bool
    state: State
    token: int
    due_at: datetime
    """of a leased one: when the lease expires"""
    planned_at: datetime
    leased_at: datetime | None
    paid_at: datetime | None
    next: Key
    """the key up to which it is done"""
    last: Key | None
    """where the batch began that was reported last under this token"""
    upper: Key
    failures: int
    """calls for it that failed as a whole, or were refused"""
    ends: Ends
    definition: Definition
    bin_numbers: Sequence[int]
    bin_max: int
    logical_at: datetime
    run_day: Any
    run_state: str
    run_members: int
    """when it was planned"""
    run_length: timedelta
    """of its window"""
    is_forced: bool
    is_paced: bool
    """whether it counts for the pace of its job: the cadence gave it"""
    try_number: int = 0
    """of its items"""
    item_ids: Sequence[str] | None = None
    """of a slot of retries; None: it is a range of keys"""

    @property
    def is_run_open(self) -> bool:
        """Whether its run has not ended; if it has, only a batch that was paid is recorded (R000-12)."""
        return self.run_state in ("planned", "running")

    @property
    def id(self) -> str:
        """Its name on the wire."""
        return f"{self.run_id}/{self.number}"


def read_id(slot: str) -> tuple[int, int]:
    """Run and number of a slot's name. Raises InvalidRequest."""
    if not _ID.fullmatch(slot):
        raise InvalidRequest([Violation("slot", "must be the `slot` of a lease")])
    run_id, _, number = slot.partition("/")
    return int(run_id), int(number)


async def take(
    connection: Any, job_id: int, lane: int, now: datetime, handlers: Sequence[str], due_from: datetime | None
) -> Slot | None:
    """The first due slot of a job that no other transaction has locked; it is locked.

    `due_from`: slots of the cadence that became due before are left out; None: none are.
    """
    return _slot_of(await connection.fetchrow(_TAKE, job_id, lane, now, list(handlers), due_from, FORCED))


async def find_requested(connection: Any, worker: str, request_number: int) -> Slot | None:
    """The slot that was leased for a request, locked, if its lease is in force (R000-05)."""
    return _slot_of(await connection.fetchrow(_REQUESTED, worker, request_number))


async def lock(connection: Any, slot_id: str, token: int) -> Slot:
    """A slot, locked. Raises LeaseLost unless the token is that of its latest lease (R000-02)."""
    run_id, number = read_id(slot_id)
    slot = _slot_of(await connection.fetchrow(_LOCK, run_id, number))
    if slot is None or slot.token != token or slot.state is State.CANCELLED:
        raise lost()
    return slot


def lost() -> LeaseLost:
    """The error for a worker whose lease is no longer valid."""
    return LeaseLost(
        "the lease of this slot is not in force any more: another worker has taken the slot, or it was given back. "
        "Drop it, and ask for another slot"
    )


async def lease(
    connection: Any, slot: Slot, until: datetime, request: tuple[str, int], now: datetime, ends: Ends
) -> None:
    """Lease a slot whose first batch is paid."""
    await connection.execute(_LEASE, slot.run_id, slot.number, until, *request, now, *ends.arguments)


async def set_ends(connection: Any, slot: Slot, ends: Ends) -> None:
    """Keep the batches as they were answered last."""
    await connection.execute(_RELEASE_ANSWER, slot.run_id, slot.number, *ends.arguments)


async def extend(connection: Any, slot: Slot, until: datetime) -> None:
    """Move the end of a lease."""
    await connection.execute(_EXTEND, slot.run_id, slot.number, until)


async def postpone(connection: Any, slot: Slot, until: datetime) -> None:
    """Keep a slot that could not be paid unchanged, its token too: no worker has received it."""
    await connection.execute(_POSTPONE, slot.run_id, slot.number, until)


async def end_lease(
    connection: Any, slot: Slot, state: State, due_at: datetime, now: datetime, *, failed: bool = False
) -> None:
    """The slot is done, or waits for its next lease from `due_at` on."""
    await connection.execute(_END, slot.run_id, slot.number, state, due_at, int(failed), now)


async def advance(
    connection: Any, slot: Slot, paid_at: datetime | None, until: datetime, counts: Sequence[int]
) -> None:
    """Go on behind the first batch. `counts`: its outcomes, in the order of the columns."""
    end = slot.ends.bins[0], slot.ends.ids[0]
    await connection.execute(_ADVANCE, slot.run_id, slot.number, *end, paid_at, until, *counts)


def _slot_of(row: Any) -> Slot | None:
    if row is None:
        return None
    return Slot(
        run_id=row["run_id"],
        number=row["number"],
        job_id=row["job_id"],
        job=row["job"],
        rest_failures=row["rest_failures"],
        is_job_paused=row["job_state"] == "paused",
        state=State(row["state"]),
        token=row["token"],
        due_at=row["due_at"],
        planned_at=row["planned_at"],
        leased_at=row["leased_at"],
        paid_at=row["paid_at"],
        next=Key(row["next_bin"], row["next_id"]),
        last=None if row["last_bin"] is None else Key(row["last_bin"], row["last_id"]),
        upper=Key(row["upper_bin"], row["upper_id"]),
        failures=row["failures"],
        ends=Ends(row["batch_bins"], row["batch_ids"], row["batch_digests"], row["has_rest"]),
        definition=Definition.model_validate_json(row["definition"]),
        bin_numbers=row["bin_numbers"],
        bin_max=row["bin_max"],
        logical_at=row["logical_at"],
        run_day=row["run_day"],
        run_state=row["run_state"],
        run_members=row["run_members"],
        run_length=row["run_length"],
        is_forced=row["lane"] == FORCED,
        is_paced=row["repeat"] == 0 and row["item_ids"] is None,
        try_number=row["try"],
        item_ids=row["item_ids"],
    )
