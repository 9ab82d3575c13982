"""The journal's partitions, one for each day of request ids, made ahead of time, and the floor below them."""

import datetime as dt
from typing import Any

from libs.domain.horizon import floor_at
from libs.domain.request_id import first_id_of, time_ms_of

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
_RAISE_OPEN = "update log set floor = $1 where state = 'open' and floor < $1"


async def keep_partitions(pool: Any, ahead_hours: int) -> None:
    """Make the partitions from the floor to `ahead_hours` ahead, and raise the floor. Harmless to repeat."""
    async with pool.acquire() as connection:
        now_ms = await connection.fetchval(_NOW_MS)
        floor = await connection.fetchval(_FLOOR)
        for day in range(time_ms_of(floor) // _DAY_MS, (now_ms + ahead_hours * 3_600_000) // _DAY_MS + 1):
            async with connection.transaction():
                await connection.execute(_LOCK)
                await _make(connection, day)
        async with connection.transaction():
            await connection.execute(_RAISE, floor_at(now_ms))
            await connection.execute(_RAISE_OPEN, floor_at(now_ms))


async def _make(connection: Any, day: int) -> None:
    date = dt.datetime.fromtimestamp(day * 86_400, tz=dt.UTC)
    name = f"journal_{date:%Y_%m_%d}"
    if await connection.fetchval(_EXISTS, name):
        return
    await connection.execute(_CREATE.format(name=name))
    first, end = first_id_of(day * _DAY_MS), first_id_of((day + 1) * _DAY_MS)
    await connection.execute(_ATTACH.format(name=name, first=first, end=end))
