"""The regions that are known here, this region included."""

import secrets
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.replication.rollup_source import has_counts
from tally.contract.errors import PeerMismatch

_PUT_OWN = """
insert into replication.region (device, name, address, is_own, epoch, counts_of) values ($1, $2, '', true, $3, $4)
on conflict (device) do update set
    name = excluded.name, epoch = excluded.epoch, is_own = true,
    counts_of = coalesce(region.counts_of, excluded.counts_of)"""
# After a change of the cluster's id, the rows of the former id belong to no region. Its counts are still here, and they
# are counts of the original region too.
_DROP_FORMER = """
update replication.region set is_own = false where is_own and device <> $1 returning coalesce(counts_of, device)"""
_COUNTS_OF = "select counts_of from replication.region where is_own"
_KNOWN = "select partition from replication.region where device = $1 for update"
_PUT = """
insert into replication.region (device, name, address, policy, epoch) values ($1, $2, $3, $4, $5)
on conflict (device) do update set
    name = excluded.name, address = excluded.address, policy = excluded.policy"""
_RESTART_LANES = "update replication.lane set data_losses = 0, problem = '' where device = $1"
_CREATE_PARTITION = """
create table replication.{name} partition of replication.received_entry for values in ('{device}')"""
_SET_PARTITION = "update replication.region set partition = $2 where device = $1"
_LIST = """
select region.device, region.name, region.address, region.is_own, region.policy,
    coalesce(problems.problem, '') as problem, coalesce(watermark.epoch, region.epoch) as epoch, watermark.as_of,
    watermark.snapshot::text as watermark, coalesce(lane.lease_until > clock_timestamp(), false) as is_held,
    counts.as_of as counts_as_of
from replication.region
    left join replication.watermark on watermark.device = region.device and watermark.model = 'entry'
    left join replication.watermark as counts on counts.device = region.device and counts.model = 'rollup'
    left join replication.lane on lane.device = region.device and lane.model = 'entry'
    left join lateral (
        select string_agg(distinct problem, '; ') as problem from replication.lane as broken
        where broken.device = region.device and problem <> ''
    ) as problems on true
order by region.is_own desc, region.name, region.device"""
_IS_PEER = "select exists (select from replication.region where device = $1 and not is_own)"
_FORGET = "delete from replication.{table} where {column} = $1"
_OF_A_REGION = (
    ("received_location", "device"),
    ("received_rollup", "device"),
    ("rollup_pass", "device"),
    ("rollup_load", "device"),
    ("watermark", "device"),
    ("peer_state", "device"),
    ("transfer", "device"),
    ("lane", "device"),
    ("peer_ack", "peer"),
    ("closing_word", "peer"),
    ("region", "device"),
)
_DROP = "drop table replication.{name}"
_LOCK = "select from replication.lane where device = $1 for update"


@dataclass(frozen=True, slots=True)
class Region:
    """A region as it is known here."""

    device: uuid.UUID
    name: str
    address: str
    is_own: bool
    policy: str
    problem: str
    epoch: int
    as_of: datetime | None
    watermark: str
    is_held: bool
    """whether some replica holds its lane"""
    counts_as_of: datetime | None


async def put_own(pool: Any, device: uuid.UUID, name: str, epoch: int) -> None:
    """Write this region's row. After a change of its id, counts that are here are those of the former one."""
    async with pool.acquire() as connection, connection.transaction():
        former = await connection.fetchval(_DROP_FORMER, device)
        counts_of = former if former is not None and await has_counts(connection) else None
        await connection.execute(_PUT_OWN, device, name, epoch, counts_of)


async def check_counts(pool: Any) -> None:
    """The counts that are here are of this region alone. Raises PeerMismatch: then no others may be added to them."""
    former = await pool.fetchval(_COUNTS_OF)
    if former is not None:
        raise PeerMismatch(
            f"this region is a copy of region {former}, and has its counts: a sum over regions would have them twice. "
            "Empty them, or keep them if that region is no more (docs/replication.md, copied regions)"
        )


async def put_region(pool: Any, device: uuid.UUID, name: str, address: str, policy: str, epoch: int) -> None:
    """Make a region known, with a partition for its rows."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(_PUT, device, name, address, policy, epoch)
        await connection.execute(_RESTART_LANES, device)
        if not await connection.fetchval(_KNOWN, device):
            partition = f"received_{device.hex[:12]}_{secrets.token_hex(4)}"
            await connection.execute(_CREATE_PARTITION.format(name=partition, device=device))
            await connection.execute(_SET_PARTITION, device, partition)


async def list_regions(pool: Any) -> list[Region]:
    """All of them, this one first."""
    return [
        Region(
            row["device"],
            row["name"],
            row["address"],
            row["is_own"],
            row["policy"],
            row["problem"],
            row["epoch"],
            row["as_of"],
            row["watermark"] or "",
            row["is_held"],
            row["counts_as_of"],
        )
        for row in await pool.fetch(_LIST)
    ]


async def is_peer(pool: Any, device: uuid.UUID) -> bool:
    """Whether a region is known here, and another one than this."""
    known: bool = await pool.fetchval(_IS_PEER, device)
    return known


async def remove_region(pool: Any, device: uuid.UUID) -> bool:
    """Remove a region with everything that is here of it; false: there is none."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(_LOCK, device)  # a frame that is being applied ends first, and none follows
        partition = await connection.fetchval(_KNOWN, device)
        if partition is None:
            return False
        if partition:
            await connection.execute(_DROP.format(name=partition))
        for table, column in _OF_A_REGION:
            await connection.execute(_FORGET.format(table=table, column=column), device)
        return True
