"""Pruning of tombstones that are no longer needed, and the floor that follows.

The transaction that prunes raises the floor, and every page looks at the floor in the snapshot of its rows. So what is
pruned too early costs a snapshot, never a deletion: acknowledgements only say when pruning is cheap.
"""

from typing import Any

_OLDEST = """
select min(pg_snapshot_xmin(watermark)::text::int8) as acked,
    (select count(*) from replication.region where not is_own) - count(*) as silent
from replication.peer_ack
where model = 'entry' and peer in (select device from replication.region where not is_own)"""
_PRUNE = """
with free as (
    select model, key from replication.tombstone
    where changed < $1::text::xid8 or deleted_at < now() - make_interval(secs => $2)
    for update skip locked -- one whose row is put again in an open transaction goes with that
), gone as (
    delete from replication.tombstone using free
    where tombstone.model = free.model and tombstone.key = free.key returning changed
)
select count(*), max(changed::text::int8) from gone"""
_RAISE = """
insert into replication.floor (model, below) values ('entry', $1::text::xid8)
on conflict (model) do update set below = greatest(floor.below, excluded.below)"""


async def prune_tombstones(pool: Any, retention_seconds: float) -> int:
    """Remove the tombstones that every known peer is past, and those beyond their retention; how many.

    A location that is behind at a peer may have been loaded before them: its load then replaces what is there.
    """
    async with pool.acquire() as connection, connection.transaction():
        oldest = await connection.fetchrow(_OLDEST)
        below = oldest["acked"] if oldest["silent"] == 0 and oldest["acked"] is not None else 0
        count, newest = await connection.fetchrow(_PRUNE, str(below), retention_seconds)
        if count:
            await connection.execute(_RAISE, str(newest + 1))
        return int(count)
