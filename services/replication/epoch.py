"""The owner's epoch: the database, and its life between restores, of versions and watermarks.

It counts before version and watermark. It rises when the cluster's own epoch was raised by a restore, when Postgres
is on another timeline (a standby was promoted), and when the database lies on another server (a dump was loaded).
A volume that was put back shows none of these; closing words do (`words.py`).
"""

from typing import Any

_READ = """
select cluster.epoch as cluster_epoch,
    ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint as timeline,
    (select system_identifier::text from pg_control_system()) as system_identifier
from public.cluster"""
_KNOWN = "select * from replication.epoch for update"
_CREATE = """
insert into replication.epoch (epoch, cluster_epoch, timeline, system_identifier) values (1, $1, $2, $3)
on conflict (only_row) do nothing"""
_RAISE = """
update replication.epoch set epoch = epoch + 1, cluster_epoch = $1, timeline = $2, system_identifier = $3"""
_EPOCH = "select epoch from replication.epoch"


async def confirm_epoch(pool: Any) -> int:
    """The epoch of now, which is raised first if anything that makes it up has changed."""
    async with pool.acquire() as connection, connection.transaction():
        found = await connection.fetchrow(_READ)
        values = (found["cluster_epoch"], found["timeline"], found["system_identifier"])
        await connection.execute(_CREATE, *values)
        known = await connection.fetchrow(_KNOWN)
        if (known["cluster_epoch"], known["timeline"], known["system_identifier"]) != values:
            await connection.execute(_RAISE, *values)
            return int(known["epoch"]) + 1
        return int(known["epoch"])
