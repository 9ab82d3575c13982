"""The rows of the replicas: which replicas answer finds, and the change that each has certainly applied.

A replica renews its row before it asks for the newest change, so a row that says "renewed long ago" proves that its
replica refuses, or will learn of every change committed before the row was read.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.catalog.feed import IDENTITY

_REGISTER = """
insert into catalog.replica (replica_id, serving, applied_change, asked_at, max_staleness_seconds)
values ($1, true, $2, clock_timestamp(), $3)"""
_RENEW = """
update catalog.replica set applied_change = $2, asked_at = clock_timestamp()
where replica_id = $1 returning true"""
_READ = f"""
select last_change, {IDENTITY} as identity, (extract(epoch from clock_timestamp()) * 1000000)::bigint as postgres_us
from catalog.feed"""
_REMOVE = "delete from catalog.replica where replica_id = $1"
_SWEEP = """
delete from catalog.replica
where asked_at < clock_timestamp() - make_interval(secs => max_staleness_seconds + 3600)"""
_LIST = """
select replica_id, serving, applied_change, asked_at,
    asked_at + make_interval(secs => max_staleness_seconds + 1) < clock_timestamp() as must_refuse
from catalog.replica order by replica_id"""


@dataclass(frozen=True, slots=True)
class Replica:
    """A row."""

    replica_id: uuid.UUID
    serving: bool
    applied_change: int
    asked_at: datetime
    must_refuse: bool
    """whether it has asked so long ago that it answers nothing; with a second more for two clocks"""


@dataclass(frozen=True, slots=True)
class Answer:
    """The second statement of a freshness query."""

    change: int
    identity: str
    postgres_us: int


async def register(pool: Any, replica_id: uuid.UUID, applied_change: int, max_staleness: float) -> None:
    """Make the row. From now on PutRules waits for this replica."""
    await pool.execute(_REGISTER, replica_id, applied_change, max_staleness)


async def renew(pool: Any, replica_id: uuid.UUID, applied_change: int) -> bool:
    """The first statement of a freshness query, committed when this returns. False: the row is gone."""
    return bool(await pool.fetchval(_RENEW, replica_id, applied_change))


async def ask(pool: Any) -> Answer:
    """The second statement, in a snapshot of its own."""
    row = await pool.fetchrow(_READ)
    return Answer(row["last_change"], row["identity"], row["postgres_us"])


async def remove(pool: Any, replica_id: uuid.UUID) -> None:
    """Take the row along. The replica must not answer any more."""
    await pool.execute(_REMOVE, replica_id)


async def sweep(pool: Any) -> None:
    """Remove the rows of replicas that are gone for long."""
    await pool.execute(_SWEEP)


async def list_replicas(pool: Any) -> list[Replica]:
    """Every row."""
    return [Replica(*row) for row in await pool.fetch(_LIST)]


def split(replicas: Sequence[Replica], change: int) -> tuple[int, int, int]:
    """How many serving replicas have applied a change, must refuse by now, and neither of the two."""
    serving = [each for each in replicas if each.serving]
    confirmed = sum(each.applied_change >= change for each in serving)
    stale = sum(each.applied_change < change and each.must_refuse for each in serving)
    return confirmed, stale, len(serving) - confirmed - stale
