"""The owner's epoch: the database, and its life between restores, of versions and watermarks.

It counts before version and watermark. It rises when the cluster's own epoch was raised by a restore, when Postgres
is on another timeline (a standby was promoted), and when the database lies on another server (a dump was loaded).
A volume that was put back shows none of these; closing words do (`words.py`).

A connection that is lost is opened anew without notice, perhaps to another server. So whatever a stream reads or writes
checks, in its own transaction, that this is still the life in which the stream was opened.
"""

from dataclasses import dataclass
from typing import Any

from tally.contract.errors import PeerMismatch

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
_IS_FROM_THE_FUTURE = """
select pg_snapshot_xmax($1::text::pg_snapshot) > pg_snapshot_xmax(pg_current_snapshot())"""


@dataclass(frozen=True, slots=True)
class Life:
    """An epoch, and what made it up."""

    epoch: int
    cluster_epoch: int
    timeline: int
    system_identifier: str


async def confirm_epoch(pool: Any) -> int:
    """The epoch of now, which is raised first if anything that makes it up has changed."""
    return (await confirm_life(pool)).epoch


async def confirm_life(pool: Any) -> Life:
    """The epoch of now with what makes it up; it is raised first if any of that has changed."""
    async with pool.acquire() as connection, connection.transaction():
        found = await connection.fetchrow(_READ)
        values = (found["cluster_epoch"], found["timeline"], found["system_identifier"])
        await connection.execute(_CREATE, *values)
        known = await connection.fetchrow(_KNOWN)
        if (known["cluster_epoch"], known["timeline"], known["system_identifier"]) != values:
            await connection.execute(_RAISE, *values)
            return Life(int(known["epoch"]) + 1, *values)
        return Life(int(known["epoch"]), *values)


async def check_life(connection: Any, life: Life, *watermarks: str) -> None:
    """In a transaction of a stream: the database is in that life, and has given out what the watermarks are made of.

    Raises PeerMismatch, which ends the stream.
    """
    found = await connection.fetchrow(_READ)
    values = (found["cluster_epoch"], found["timeline"], found["system_identifier"])
    epoch = await connection.fetchval(_EPOCH)
    if Life(epoch, *values) != life:
        raise PeerMismatch(
            f"the database is not the one of epoch {life.epoch} any more: a standby was promoted, or a backup "
            "restored. The lane begins a new stream by itself"
        )
    for watermark in watermarks:
        if await is_from_the_future(connection, watermark):
            raise PeerMismatch(
                f"the watermark {watermark} is above everything that this region has committed: its database was put "
                "back. The lane begins a new stream by itself"
            )


async def is_from_the_future(connection: Any, watermark: str) -> bool:
    """Whether a watermark is above everything that this database has given out: it is of another life."""
    answer: bool = await connection.fetchval(_IS_FROM_THE_FUTURE, watermark)
    return answer
