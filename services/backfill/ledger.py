"""The ledger: the events that are counted or being counted, and the ids under which they were sent.

Each method is one transaction that is harmless to repeat; after Unavailable it is unknown whether it was committed, and
the caller reads the bucket again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from libs.stores.transactions import transaction
from services.backfill.plan import Plan

_BUCKET = """
select bucket.version, bucket.counted, bucket.counted_count, plan.plan_id, plan.object, plan.hash_count, dataset_id
from backfill.bucket as bucket left join backfill.plan as plan using (plan_id) cross join backfill.dataset
where bucket.bucket = $1"""
_LOCK = "select version, plan_id from backfill.bucket where bucket = $1 for update"
_OPEN = """
insert into backfill.plan (bucket, object, hash_count) values ($1, $2, $3) returning plan_id"""
_POINT = "update backfill.bucket set version = version + 1, plan_id = $2 where bucket = $1"
_SHIPMENTS = """
insert into backfill.shipment (plan_id, number, partition, event_count, start, length)
select $1, number, partition, events, start, length
from unnest($2::integer[], $3::integer[], $4::integer[], $5::bigint[], $6::integer[])
    as item (number, partition, events, start, length)"""
_OPEN_SHIPMENTS = """
select number, event_count, start, length from backfill.shipment where plan_id = $1 and done_at is null
order by number"""
# The time is Postgres's, which refuses an id by its own clock.
_BEGIN = """
update backfill.shipment
set first_sent_ms = coalesce(first_sent_ms, (extract(epoch from clock_timestamp()) * 1000)::bigint)
where plan_id = $1 and number = $2 returning attempt, first_sent_ms"""
_DONE = """
update backfill.shipment set receipt = $3, done_at = now() where plan_id = $1 and number = $2 and done_at is null"""
_HAS_OPEN = "select exists (select from backfill.shipment where plan_id = $1 and done_at is null)"
_CLOSE = """
update backfill.bucket set version = version + 1, plan_id = null, counted = $2, counted_count = $3 where bucket = $1"""
_CLOSED = "update backfill.plan set closed_at = now() where plan_id = $1"


@dataclass(frozen=True, slots=True)
class OpenPlan:
    """A plan that is being sent."""

    plan_id: int
    object: str
    hash_count: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket as it was read."""

    number: int
    version: int
    counted: str | None
    """the object of the counted set"""
    counted_count: int
    plan: OpenPlan | None
    dataset_id: str


@dataclass(frozen=True, slots=True)
class Outstanding:
    """A shipment without a receipt."""

    number: int
    event_count: int
    start: int
    length: int


class Ledger:
    """The ledger of the cluster."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def read(self, bucket: int) -> Bucket:
        """A bucket, with its open plan."""
        async with transaction(self._pool) as connection:
            row = await connection.fetchrow(_BUCKET, bucket)
        plan = None
        if row["plan_id"] is not None:
            plan = OpenPlan(row["plan_id"], row["object"], row["hash_count"])
        return Bucket(
            bucket, row["version"], row["counted"], row["counted_count"], plan, str(row["dataset_id"])
        )

    async def open(self, bucket: Bucket, name: str, plan: Plan) -> bool:
        """Fix a plan whose object was written; False if the bucket has changed since it was read."""
        async with transaction(self._pool) as connection:
            row = await connection.fetchrow(_LOCK, bucket.number)
            if row["version"] != bucket.version or row["plan_id"] is not None:
                return False
            plan_id = await connection.fetchval(_OPEN, bucket.number, name, plan.hash_count)
            await connection.execute(
                _SHIPMENTS,
                plan_id,
                [shipment.number for shipment in plan.shipments],
                [shipment.partition for shipment in plan.shipments],
                [shipment.event_count for shipment in plan.shipments],
                [shipment.start for shipment in plan.shipments],
                [shipment.length for shipment in plan.shipments],
            )
            await connection.execute(_POINT, bucket.number, plan_id)
        return True

    async def list_outstanding(self, plan: OpenPlan) -> Sequence[Outstanding]:
        """The shipments of a plan that have no receipt."""
        async with transaction(self._pool) as connection:
            rows = await connection.fetch(_OPEN_SHIPMENTS, plan.plan_id)
        return [Outstanding(*row.values()) for row in rows]

    async def begin(self, plan: OpenPlan, number: int) -> tuple[int, int]:
        """The attempt, and when it was sent first in ms: stored now, if it never was. To be called before each send."""
        async with transaction(self._pool) as connection:
            row = await connection.fetchrow(_BEGIN, plan.plan_id, number)
        return row["attempt"], row["first_sent_ms"]

    async def finish(self, plan: OpenPlan, number: int, receipt: str) -> None:
        """Keep that a shipment is in the journal."""
        async with transaction(self._pool) as connection:
            await connection.execute(_DONE, plan.plan_id, number, receipt)

    async def close(self, bucket: Bucket, plan: OpenPlan, counted: str, counted_count: int) -> bool:
        """Take a plan whose shipments are all done into the counted set, whose new object was written.

        False if the bucket has changed since it was read, or a shipment is not done.
        """
        async with transaction(self._pool) as connection:
            row = await connection.fetchrow(_LOCK, bucket.number)
            if row["version"] != bucket.version or row["plan_id"] != plan.plan_id:
                return False
            if await connection.fetchval(_HAS_OPEN, plan.plan_id):
                return False
            await connection.execute(_CLOSE, bucket.number, counted, counted_count)
            await connection.execute(_CLOSED, plan.plan_id)
        return True
