"""Outcomes: each is recorded once per run, item and try, and what was found is stored with it (R000-04).

An item with the outcome RETRY is tried again in the same run, three times at most; then it is a dead letter, one for
each item of a job, until a success.
"""

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum
from typing import Any

from services.scheduler.populations import POPULATIONS
from tally.contract.backoff import Backoff


class Outcome(IntEnum):
    """The outcome of an item; numbered as in the api and in the table."""

    SYNCED = 1
    UNCHANGED = 2
    GONE = 3
    RETRY = 4
    FAILED = 5


@dataclass(frozen=True, slots=True)
class ItemOutcome:
    """An item and what became of it."""

    id: str
    outcome: Outcome
    detail: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    """columns of the population that were found"""
    retry_after_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Place:
    """Whose outcomes they are."""

    run_id: int
    run_day: date
    job_id: int
    population: str
    try_number: int = 0


# In the order of ids, here as below: two reports of the same items in opposite order would wait for each other.
_RECORD = """
insert into scheduler.sync_attempt (run_id, item_id, try, run_day, job_id, outcome, attempted_at, detail)
select $1, id, $2, $3, $4, outcome, $5, detail
from unnest($6::text[], $7::smallint[], $8::text[]) as item (id, outcome, detail) order by id
on conflict do nothing
returning item_id"""
_STATE = """
insert into scheduler.sync_state as state
    (job_id, item_id, last_success_at, last_attempt_at, last_outcome, failures, run_id, next_try_at, next_try)
select $1, id, case when outcome <= 2 then $2::timestamptz end, $2, outcome, (outcome >= 4)::integer, $6,
    next_try_at, $7
from unnest($3::text[], $4::smallint[], $5::timestamptz[]) as item (id, outcome, next_try_at) order by id
on conflict (job_id, item_id) do update set
    last_success_at = coalesce(excluded.last_success_at, state.last_success_at),
    last_attempt_at = excluded.last_attempt_at, last_outcome = excluded.last_outcome,
    failures = case when excluded.failures = 0 then 0 else state.failures + 1 end,
    next_try_at = case when excluded.run_id >= state.run_id then excluded.next_try_at else state.next_try_at end,
    next_try = case when excluded.run_id >= state.run_id then excluded.next_try else state.next_try end,
    run_id = greatest(excluded.run_id, state.run_id)"""
# Not of an item that a newer run has met since.
_BURY = """
insert into scheduler.sync_dead_letter as letter
    (job_id, item_id, run_id, tries, outcome, detail, created_at, changed_at)
select $1, item_id, $2, $3, outcome, detail, $4, $4
from unnest($5::text[], $6::smallint[], $7::text[]) as item (item_id, outcome, detail)
    join scheduler.sync_state as state using (item_id)
where state.job_id = $1 and state.run_id = $2 order by item_id
on conflict (job_id, item_id) do update set run_id = excluded.run_id, tries = excluded.tries,
    outcome = excluded.outcome, detail = excluded.detail, changed_at = excluded.changed_at"""
_UNBURY = "delete from scheduler.sync_dead_letter where job_id = $1 and item_id = any($2)"
_LOCK = "select from {table} where {key} = any($1) order by {key} for no key update"
_SUCCESS = "update {table} set {synced_at} = $2 where {key} = any($1)"
_UNWANTED = "update {table} set {wanted} = false, member_since = $2 where {key} = any($1) and {wanted}"
_GONE = "update {table} set gone = true, member_since = $2 where {key} = any($1) and not gone"
_FOUND = """
update scheduler.youtube_video as video set
    title = coalesce(item.title, video.title), channel_id = coalesce(item.channel_id, video.channel_id),
    published_at = coalesce(item.published_at, video.published_at),
    duration_seconds = coalesce(item.duration_seconds, video.duration_seconds),
    view_count = coalesce(item.view_count, video.view_count),
    like_count = coalesce(item.like_count, video.like_count),
    comment_count = coalesce(item.comment_count, video.comment_count), etag = coalesce(item.etag, video.etag),
    video_synced_at = $1
from unnest($2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::bigint[], $7::bigint[], $8::bigint[],
    $9::bigint[], $10::text[]) as item (id, title, channel_id, published_at, duration_seconds, view_count,
    like_count, comment_count, etag)
where video.youtube_id = item.id"""
_FOUND_COLUMNS = (
    "title",
    "channel_id",
    "published_at",
    "duration_seconds",
    "view_count",
    "like_count",
    "comment_count",
    "etag",
)

_BACKOFF = Backoff(first_s=75.0, longest_s=300.0)
MOST_RETRIES = 3
_TOGETHER_SECONDS = 15
"""Tries become due at multiples of this, so that items share calls."""


def backoff_seconds(try_number: int, share: float) -> float:
    """How long an item waits for its next try: exponential with full jitter, `share` is from 0 to 1.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    return share * _BACKOFF.cap_s(try_number)


async def record(
    connection: Any, place: Place, items: Sequence[ItemOutcome], now: datetime
) -> Counter[Outcome]:
    """Record outcomes, and apply those that are new: the item's state, and the member itself.

    The caller holds the slot's row, and those of its quotas if it pays. Returns how many of each were recorded.
    """
    ids = [item.id for item in items]
    rows = await connection.fetch(
        _RECORD,
        place.run_id,
        place.try_number,
        place.run_day,
        place.job_id,
        now,
        ids,
        [item.outcome for item in items],
        [item.detail for item in items],
    )
    recorded = {row["item_id"] for row in rows}
    fresh = [item for item in items if item.id in recorded]
    if fresh:
        await _keep_state(connection, place, fresh, now)
        await _change_members(connection, place, fresh, now)
    return Counter(item.outcome for item in fresh)


async def _keep_state(connection: Any, place: Place, items: Sequence[ItemOutcome], now: datetime) -> None:
    await connection.execute(
        _STATE,
        place.job_id,
        now,
        [item.id for item in items],
        [item.outcome for item in items],
        [_next_try_at(item, place, now) for item in items],
        place.run_id,
        place.try_number + 1,
    )
    dead = [item for item in items if is_final(item, place)]
    if dead:
        await connection.execute(
            _BURY,
            place.job_id,
            place.run_id,
            place.try_number + 1,
            now,
            [item.id for item in dead],
            [item.outcome for item in dead],
            [item.detail for item in dead],
        )
    settled = [item.id for item in items if item.outcome not in (Outcome.RETRY, Outcome.FAILED)]
    if settled:
        await connection.execute(_UNBURY, place.job_id, settled)


def is_final(item: ItemOutcome, place: Place) -> bool:
    """Whether an item becomes a dead letter: it failed for good, or was tried again often enough."""
    if not POPULATIONS[place.population].has_retries:
        return False
    is_last = place.try_number >= MOST_RETRIES
    return item.outcome is Outcome.FAILED or (item.outcome is Outcome.RETRY and is_last)


def _next_try_at(item: ItemOutcome, place: Place, now: datetime) -> datetime | None:
    if item.outcome is not Outcome.RETRY or is_final(item, place):
        return None
    if not POPULATIONS[place.population].has_retries:
        return None
    backoff = backoff_seconds(place.try_number, random.random())  # noqa: S311 - it is no secret
    due_at = (now + timedelta(seconds=max(backoff, item.retry_after_seconds))).timestamp()
    return datetime.fromtimestamp(math.ceil(due_at / _TOGETHER_SECONDS) * _TOGETHER_SECONDS, UTC)


async def _change_members(connection: Any, place: Place, items: Sequence[ItemOutcome], now: datetime) -> None:
    population = POPULATIONS[place.population]
    names = {"table": population.table, "key": population.key}
    found = [item for item in items if item.data]
    succeeded = [
        item.id for item in items if item.outcome in (Outcome.SYNCED, Outcome.UNCHANGED) and not item.data
    ]
    gone = [item.id for item in items if item.outcome is Outcome.GONE]
    settled = [
        item.id for item in items if population.wanted is not None and item.outcome is not Outcome.RETRY
    ]
    changed = sorted({*(item.id for item in found), *succeeded, *gone, *settled})
    if not changed:
        return
    await connection.execute(_LOCK.format(**names), changed)
    if succeeded:
        await connection.execute(_SUCCESS.format(**names, synced_at=population.synced_at), succeeded, now)
    if gone:
        await connection.execute(_GONE.format(**names), gone, now)
    if settled:
        await connection.execute(_UNWANTED.format(**names, wanted=population.wanted), settled, now)
    if found:
        columns = [[item.data.get(column) for item in found] for column in _FOUND_COLUMNS]
        await connection.execute(_FOUND, now, [item.id for item in found], *columns)
