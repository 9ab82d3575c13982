"""Drops journal partitions that are empty and below every floor, so that they do not accumulate.

A partition with entries stays until there is an archive. No insert comes below the floor of its log, and the floor of a
log waits for the insert under way; so below the floor of the cluster and of every log that is not settled, a partition
that is empty stays empty.

`detach … concurrently` locks only the partition itself. It cannot run in a transaction: one that is
interrupted leaves its partition pending, and the next upkeep, of any shard, finalizes it.
"""

import datetime as dt
import time
import uuid
from typing import Any

import asyncpg
import structlog

from libs.domain.horizon import floor_at
from libs.stores.pool import session
from tally.contract.request_id import first_id_of

_LOGGER = structlog.get_logger(__name__)

MOST_DROPS = 100
"""in one round of upkeep"""
LOCK_SECONDS = 1.0
"""How long a statement waits for a lock; statements on the same partition queue behind it."""

# That of all who make or drop partitions; held for one partition at a time.
_TRY_LOCK = "select pg_try_advisory_lock(7305802)"
_UNLOCK = "select pg_advisory_unlock(7305802)"
_WAIT = "set lock_timeout = {milliseconds}"
# By this machine's clock too: a floor that a wrong clock moved ahead costs no partition that is still needed.
_OLD = """
with lowest as (
    select least(cluster.floor, (
        select opening_floor from counting.log where state <> 'settled' order by opening_floor limit 1
    ), $1::uuid) as floor from public.cluster
)
select relname as name, inhdetachpending as is_pending
from lowest, pg_inherits join pg_class on pg_class.oid = inhrelid
cross join lateral regexp_match(pg_get_expr(relpartbound, inhrelid), $$FROM \\('(.+)'\\) TO \\('(.+)'\\)$$) as bound
where inhparent = 'counting.journal'::regclass and bound[2]::uuid <= lowest.floor and relname like $2
order by inhdetachpending desc, name"""
_HAS_ROWS = "select exists (select from counting.{name})"
_DETACH = "alter table counting.journal detach partition counting.{name} concurrently"
_FINALIZE = "alter table counting.journal detach partition counting.{name} finalize"
_ATTACH = "alter table counting.journal attach partition counting.{name} for values from ('{first_id}') to ('{end_id}')"
# A table of a day that is no partition was detached by a shard that was then interrupted.
_DETACHED = """
select relname as name from pg_class
where relnamespace = 'counting'::regnamespace
    and relkind = 'r' and not relispartition and relname ~ '^journal_[0-9]{4}_[0-9]{2}_[0-9]{2}$'"""
_LOCK_TABLE = "lock table counting.{name} in access exclusive mode"
_DROP = "drop table counting.{name}"
_NOTE = """
insert into counting.dropped_partition (name, first_id, end_id) values ($1, $2, $3)
on conflict (name) do update set dropped_at = now()"""
# The floor may have been lowered, and the partition made again.
_FORGET = "delete from counting.dropped_partition where to_regclass('counting.' || name) is not null"


async def drop_empty_partitions(pool: Any) -> int:
    """Drop some of the empty partitions below every floor; how many. Harmless to repeat and to interrupt.

    A partition that is in use is left for the next time, and so are those after it.
    """
    dropped = 0
    async with session(pool) as connection:
        await connection.execute(_WAIT.format(milliseconds=int(LOCK_SECONDS * 1000)))
        await connection.execute(_FORGET)
        names = [*await connection.fetch(_DETACHED), *await connection.fetch(_OLD, _floor_of_machine(), "%")]
        for name in [row["name"] for row in names]:
            if dropped >= MOST_DROPS or not await connection.fetchval(_TRY_LOCK):
                break
            try:
                dropped += await _drop_if_empty(connection, name)
            except (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError) as error:
                _LOGGER.info("empty journal partition is in use; it is dropped later", error=str(error))
                break
            await connection.execute(_UNLOCK)
    if dropped:
        _LOGGER.info("empty journal partitions dropped", partitions=dropped)
    return dropped


def _floor_of_machine() -> uuid.UUID:
    return floor_at(int(time.time() * 1000))


async def _drop_if_empty(connection: Any, name: str) -> bool:
    """Look again, now that the lock is held, and drop it."""
    for row in await connection.fetch(_OLD, _floor_of_machine(), name):
        if not await _detach_if_empty(connection, name, is_pending=row["is_pending"]):
            return False
    if name not in [row["name"] for row in await connection.fetch(_DETACHED)]:
        return False  # another shard has dropped it, or it is needed again
    return await _drop_detached(connection, name)


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
        await connection.execute(_NOTE, name, first_id, end_id)
        await connection.execute(_DROP.format(name=name))
    return True
