"""The pace of a job: overdue slots are leased at no more than `catchup_rate` times the rate that was planned (T000-15).

Every lease of a slot that the cadence gave moves `paced_until` by the time in which its members may be dispatched at
that rate; only a slot that is overdue waits for it. So runs that are on time are not delayed, and late runs get what
these leave of the rate. GCRA without a tolerance: https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from services.scheduler.slots import Slot

OVERDUE = timedelta(minutes=1)
"""A slot that has been due for longer is overdue."""

_READ = "select job_id, paced_until from scheduler.sync_pace where paced_until > $1"
_KEEP = """
insert into scheduler.sync_pace as pace (job_id, paced_until) values ($1, $2::timestamptz + $3::interval)
on conflict (job_id) do update set paced_until = greatest(pace.paced_until, $2::timestamptz) + $3::interval
    where not $4 or pace.paced_until <= $2::timestamptz
returning paced_until"""
_RETURN = "update scheduler.sync_pace set paced_until = paced_until - $2::interval where job_id = $1"


async def read_paces(connection: Any, now: datetime) -> Mapping[int, datetime]:
    """The jobs whose overdue slots wait now, and until when. A hint: nothing is locked."""
    return {row["job_id"]: row["paced_until"] for row in await connection.fetch(_READ, now)}


def is_overdue(slot: Slot, now: datetime) -> bool:
    """Whether a slot has been due for so long that it waits for the pace of its job."""
    return slot.is_paced and slot.due_at < now - OVERDUE


def dispatch_time(slot: Slot, members: int, rate: float) -> timedelta:
    """The time in which so many members may be dispatched at this multiple of the run's planned rate."""
    if not slot.is_paced or not rate:
        return timedelta()
    return slot.run_length * (members / max(members, slot.run_members) / rate)


async def keep_pace(connection: Any, slot: Slot, members: int, rate: float, now: datetime) -> bool:
    """Whether a slot of so many members may be leased now; if so its job's pace is moved.

    The caller holds the slot's row. A rate of 0 is no limit.
    """
    took = dispatch_time(slot, members, rate)
    if not took:
        return True
    return await connection.fetchval(_KEEP, slot.job_id, now, took, is_overdue(slot, now)) is not None


async def return_pace(connection: Any, slot: Slot, members: int, rate: float) -> None:
    """Undo `keep_pace` for a slot that was not leased after all, in the same transaction."""
    took = dispatch_time(slot, members, rate)
    if took:
        await connection.execute(_RETURN, slot.job_id, took)
