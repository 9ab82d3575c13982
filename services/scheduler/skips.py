"""Logical times that get no run: those that are too old to catch up with, and those that overlap with an open run."""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import structlog

from services.scheduler.definition import Definition, Overlap

_LOGGER = structlog.get_logger(__name__)

_SKIP = """
insert into scheduler.sync_run (job_id, logical_at, repeat, state, reason, definition, handler, bin_numbers, bin_max,
    run_day, opens_at, closes_at, planned_at, ended_at, skipped_until, skipped)
values ($1, $2, 0, 'skipped', $3, $4, $5, '{}', $6, $7, $8, $9, $10, $10, $11, $12)
on conflict (job_id, logical_at, repeat) do nothing"""
_OPEN = """
select run_id from scheduler.sync_run
where job_id = $1 and repeat = 0 and state in ('planned', 'running') order by logical_at"""
_MOST_OPEN = {Overlap.SKIP: 1, Overlap.BUFFER_ONE: 2}
"""Runs of the cadence, by overlap; any number of runs queue."""


class Span(NamedTuple):
    """The logical times from the first up to, and without, the second."""

    first: datetime
    end: datetime


def first_to_plan(definition: Definition, next_logical_at: datetime, now: datetime) -> datetime:
    """The first logical time that is not to be skipped, because its window opened too long ago."""
    oldest = definition.first_period(now - timedelta(hours=definition.catchup_hours))
    return max(next_logical_at, oldest)


async def find_overlap(connection: Any, job_id: int, definition: Definition) -> str | None:
    """Why the next run is not planned, if the runs that are open forbid it."""
    most = _MOST_OPEN.get(definition.overlap)
    if most is None:
        return None
    rows = await connection.fetch(_OPEN, job_id)
    if len(rows) < most:
        return None
    waiting = f", and run {rows[-1]['run_id']} waits" if most > 1 else ""
    return f"run {rows[0]['run_id']} has not ended{waiting} (overlap = {definition.overlap})"


async def skip(
    connection: Any, job_id: int, definition: Definition, span: Span, reason: str, now: datetime
) -> int:
    """Write one row for the logical times of a span; how many they are."""
    period = definition.cadence.period
    count, last = (span.end - span.first) // period, span.end - period
    opens_at = definition.opens_at(span.first)
    await connection.execute(
        _SKIP,
        job_id,
        span.first,
        reason,
        definition.model_dump_json(),
        definition.handler,
        definition.bin_max,
        span.first.astimezone(UTC).date(),
        opens_at,
        opens_at + definition.length,
        now,
        last,
        count,
    )
    _LOGGER.warning(
        "runs skipped",
        job=definition.name,
        first=span.first.isoformat(),
        last=last.isoformat(),
        count=count,
        reason=reason,
    )
    return count
