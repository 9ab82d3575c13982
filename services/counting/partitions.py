"""The journal's partitions, one for each day of request ids, made ahead of time, and the floor below them."""

import datetime as dt
import uuid
from typing import Any

import asyncpg
import structlog

from libs.domain.horizon import floor_at
from libs.domain.request_id import first_id_of, time_ms_of

_LOGGER = structlog.get_logger(__name__)

LOCK_SECONDS = 2.0
"""How long the floor of a log may wait for an insert under way; below the time that a statement of upkeep has."""

_DAY_MS = 86_400_000
# Any constant number will do; it keeps the upkeep of two shards apart.
_LOCK = "select pg_advisory_xact_lock(7305802)"
_NOW_MS = "select (extract(epoch from clock_timestamp()) * 1000)::bigint"
_FLOOR = "select floor from cluster"
_EXISTS = "select to_regclass($1) is not null"
# Attached, not created in place: `create … partition of` locks the whole journal behind a long reader.
_CREATE = "create table {name} (like journal including all)"
_ATTACH = "alter table journal attach partition {name} for values from ('{first}') to ('{end}')"
_RAISE = "update cluster set floor = $1 where floor < $1"
_BEHIND = "select log_id from log where state = 'open' and floor < $1"
# As closing does, and for the same reason: after a plain update, an insert under way would still go by the old floor,
# and so would one that has taken its snapshot and not yet the row (tried).
_WAIT = "set local lock_timeout = {milliseconds}"
_LOCK_LOG = "select from log where log_id = $1 for update"
_RAISE_LOG = "update log set floor = $2 where log_id = $1 and floor < $2"


async def keep_partitions(pool: Any, ahead_hours: int) -> None:
    """Make the partitions from the floor to `ahead_hours` ahead, and raise the floor. Harmless to repeat."""
    async with pool.acquire() as connection:
        now_ms = await connection.fetchval(_NOW_MS)
        floor = await connection.fetchval(_FLOOR)
        for day in range(time_ms_of(floor) // _DAY_MS, (now_ms + ahead_hours * 3_600_000) // _DAY_MS + 1):
            async with connection.transaction():
                await connection.execute(_LOCK)
                await _make(connection, day)
        await _raise_floor(connection, floor_at(now_ms))


async def _raise_floor(connection: Any, floor: uuid.UUID) -> None:
    """Raise the cluster's floor, for logs to come, then that of each open log.

    When an open log has a floor, no entry below it is on its way into the journal any more. One log at a time, so that
    a frozen one holds up nobody else's inserts; its floor stays where it is until the next time, or until it is closed.
    """
    await connection.execute(_RAISE, floor)
    for row in await connection.fetch(_BEHIND, floor):
        try:
            async with connection.transaction():
                await connection.execute(_WAIT.format(milliseconds=int(LOCK_SECONDS * 1000)))
                await connection.execute(_LOCK_LOG, row["log_id"])
                await connection.execute(_RAISE_LOG, row["log_id"], floor)
        except asyncpg.LockNotAvailableError:
            _LOGGER.warning("floor of a log not raised: an insert does not end", log_id=row["log_id"])


async def _make(connection: Any, day: int) -> None:
    date = dt.datetime.fromtimestamp(day * 86_400, tz=dt.UTC)
    name = f"journal_{date:%Y_%m_%d}"
    if await connection.fetchval(_EXISTS, name):
        return
    await connection.execute(_CREATE.format(name=name))
    first, end = first_id_of(day * _DAY_MS), first_id_of((day + 1) * _DAY_MS)
    await connection.execute(_ATTACH.format(name=name, first=first, end=end))
