"""Drops journal partitions that are empty and below every floor, so that they do not pile up over the years.

A partition with entries stays until there is an archive. No insert comes below the floor of its log, and the floor of a
log waits for the insert under way; so below the floor of the cluster and of every log that is not settled, a partition
that is empty stays empty.

`detach … concurrently` locks out nobody but the partition itself. It cannot run in a transaction: one that is
interrupted leaves its partition pending, and the next upkeep, of any shard, finalizes it.
"""

import datetime as dt
import time
from typing import Any

import asyncpg
import structlog

from libs.domain.horizon import floor_at
from libs.domain.request_id import first_id_of

_LOGGER = structlog.get_logger(__name__)

MOST_DROPS = 100
"""in one round of upkeep"""
LOCK_SECONDS = 1.0
"""How long a statement waits for a lock; those who want the same partition wait behind it."""

# Any constant number will do; one shard at a time. The connection holds it until it is given back to its pool.
_TRY_LOCK = "select pg_try_advisory_lock(7305803)"
_WAIT = "set lock_timeout = {milliseconds}"
# By this machine's clock too: a floor that a wrong clock moved ahead costs no partition that is still needed.
_OLD = """
with lowest as (
    select least(cluster.floor, (
        select opening_floor from log where state <> 'settled' order by opening_floor limit 1
    ), $1::uuid) as floor from cluster
)
select relname as name, inhdetachpending as is_pending
from lowest, pg_inherits join pg_class on pg_class.oid = inhrelid
cross join lateral regexp_match(pg_get_expr(relpartbound, inhrelid), $$FROM \\('(.+)'\\) TO \\('(.+)'\\)$$) as bound
where inhparent = 'journal'::regclass and bound[2]::uuid <= lowest.floor
order by inhdetachpending desc, name"""
_HAS_ROWS = "select exists (select from {name})"
_DETACH = "alter table journal detach partition {name} concurrently"
_FINALIZE = "alter table journal detach partition {name} finalize"
_ATTACH = "alter table journal attach partition {name} for values from ('{first_id}') to ('{end_id}')"
# A table of a day that is no partition was detached by a shard that was then interrupted.
_DETACHED = """
select relname as name from pg_class
where relnamespace = (select relnamespace from pg_class where oid = 'journal'::regclass)
    and relkind = 'r' and not relispartition and relname ~ '^journal_[0-9]{4}_[0-9]{2}_[0-9]{2}$'"""
_LOCK_TABLE = "lock table {name} in access exclusive mode"
_DROP = "drop table {name}"
_NOTE = """
insert into dropped_partition (first_id, end_id) values ($1, $2)
on conflict (first_id) do update set dropped_at = now()"""


async def drop_empty_partitions(pool: Any) -> int:
    """Drop some of the empty partitions below every floor; how many. Harmless to repeat and to interrupt.

    A partition that is in use is left for the next time, and so are those after it.
    """
    async with pool.acquire() as connection:
        if not await connection.fetchval(_TRY_LOCK):
            return 0  # another shard is at it
        dropped = 0
        try:
            await connection.execute(_WAIT.format(milliseconds=int(LOCK_SECONDS * 1000)))
            for row in await connection.fetch(_DETACHED):
                dropped += await _drop_detached(connection, row["name"])
            for row in await connection.fetch(_OLD, floor_at(int(time.time() * 1000))):
                if dropped >= MOST_DROPS:
                    break
                if await _detach_if_empty(connection, row["name"], is_pending=row["is_pending"]):
                    dropped += await _drop_detached(connection, row["name"])
        except (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError) as error:
            _LOGGER.info("empty journal partition is in use; it is dropped later", error=str(error))
    if dropped:
        _LOGGER.info("empty journal partitions dropped", partitions=dropped)
    return dropped


async def _detach_if_empty(connection: Any, name: str, *, is_pending: bool) -> bool:
    if is_pending:
        await connection.execute(_FINALIZE.format(name=name))
    elif await connection.fetchval(_HAS_ROWS.format(name=name)):
        return False
    else:
        await connection.execute(_DETACH.format(name=name))
    return True


async def _drop_detached(connection: Any, name: str) -> bool:
    """Drop a table that was a partition, and note its bounds. One that is not empty becomes a partition again."""
    day = dt.datetime.strptime(name, "journal_%Y_%m_%d").replace(tzinfo=dt.UTC)
    first_id, end_id = (
        first_id_of(int(each.timestamp()) * 1000) for each in (day, day + dt.timedelta(days=1))
    )
    async with connection.transaction():
        await connection.execute(_LOCK_TABLE.format(name=name))
        if await connection.fetchval(_HAS_ROWS.format(name=name)):
            _LOGGER.error("detached journal partition has entries; attaching it again", partition=name)
            await connection.execute(_ATTACH.format(name=name, first_id=first_id, end_id=end_id))
            return False
        await connection.execute(_NOTE, first_id, end_id)
        await connection.execute(_DROP.format(name=name))
    return True
