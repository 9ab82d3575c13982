"""The counts of other regions: copies that readers see or do not see yet, and the rows of the pass in progress.

Readers see the copy that the region's watermark names. A pass is written to its own table, and merged in the
transaction that moves the watermark. A load fills another copy, which that same transaction shows (T003-38).
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.replication.rollups import MODEL, RollupRow
from tally.contract.errors import DataLoss
from tally.replication.v1 import peers_pb2 as pb

_COLUMNS = "video_id, event_type, minute, generation, count, value_count, sum, min, max, m2"
_GIVEN = """unnest($2::text[], $3::text[], $4::int[], $5::int[], $6::bigint[], $7::bigint[], $8::float8[],
    $9::float8[], $10::float8[], $11::float8[])"""
_READ_LOAD = """
select copy, epoch, begun_at::text as begun_at, word, after, is_complete
from replication.rollup_load where device = $1"""
_BEGIN_LOAD = """
insert into replication.rollup_load (device, copy, epoch, begun_at, word)
select $1, 1 + greatest(
    0,
    (select max(copy) from replication.rollup_load where device = $1),
    (select max(copy) from replication.watermark where device = $1 and model = $4),
    (select max(copy) from replication.received_rollup where device = $1)
), $2, $3::text::pg_snapshot, 0
on conflict (device) do update set
    copy = excluded.copy, epoch = excluded.epoch, begun_at = excluded.begun_at, word = 0, after = null,
    is_complete = false"""
_PUT_LOADED = f"""
insert into replication.received_rollup (device, copy, {_COLUMNS}) select $1, $12, given.* from {_GIVEN} as given"""
_MOVE_LOAD = "update replication.rollup_load set after = $2, word = $3 where device = $1"
_END_LOAD = "update replication.rollup_load set is_complete = true where device = $1"
_DROP_LOAD = "delete from replication.rollup_load where device = $1"
_CLEAR = "delete from replication.rollup_pass where device = $1"
_PUT_PASSED = f"""
insert into replication.rollup_pass (device, {_COLUMNS}) select $1, given.* from {_GIVEN} as given"""
_MERGE = f"""
insert into replication.received_rollup (device, copy, {_COLUMNS})
select device, $2, {_COLUMNS} from replication.rollup_pass where device = $1
on conflict (video_id, event_type, minute, generation, device, copy) do update set
    count = excluded.count, value_count = excluded.value_count, sum = excluded.sum, min = excluded.min,
    max = excluded.max, m2 = excluded.m2"""
_COPY = "select copy from replication.watermark where device = $1 and model = $2"
_SHOW = """
insert into replication.watermark (device, model, epoch, snapshot, word, as_of, copy)
values ($1, $2, $3, $4::text::pg_snapshot, $5, $6, $7)
on conflict (device, model) do update set
    epoch = excluded.epoch, snapshot = excluded.snapshot, word = excluded.word, as_of = excluded.as_of,
    copy = excluded.copy"""
_IS_SEEN = """exists (
        select from replication.watermark where device = {device} and model = $1 and copy = {copy})
    or exists (select from replication.rollup_load where device = {device} and copy = {copy})"""
# From one (device, copy) to the next by the index, without the rows between.
_DEAD = f"""
with recursive found as (
    (select device, copy from replication.received_rollup order by device, copy limit 1)
    union all
    select next.device, next.copy from found cross join lateral (
        select device, copy from replication.received_rollup as received
        where (received.device, received.copy) > (found.device, found.copy)
        order by device, copy limit 1
    ) as next
)
select device, copy from found where not ({_IS_SEEN.format(device="found.device", copy="found.copy")}) limit 1"""
_PRUNE = f"""
delete from replication.received_rollup where ctid = any(array(
    select ctid from replication.received_rollup
    where device = $2 and copy = $3 and not ({_IS_SEEN.format(device="$2", copy="$3")})
    limit $4
))"""


@dataclass(frozen=True, slots=True)
class RollupLoad:
    """A load that is not visible yet. `after`: everything up to this key is here."""

    copy: int
    epoch: int
    begun_at: str
    word: int
    after: pb.RollupKey | None
    is_complete: bool


async def read_load(connection: Any, device: uuid.UUID) -> RollupLoad | None:
    """The load in progress, if there is one."""
    row = await connection.fetchrow(_READ_LOAD, device)
    if row is None:
        return None
    after = None if row["after"] is None else pb.RollupKey.FromString(row["after"])
    return RollupLoad(row["copy"], row["epoch"], row["begun_at"], row["word"], after, row["is_complete"])


async def begin_load(connection: Any, device: uuid.UUID, epoch: int, begun_at: str) -> None:
    """Begin a load into a new, invisible copy; a load in progress is given up."""
    await connection.execute(_BEGIN_LOAD, device, epoch, begun_at, MODEL)


async def put_loaded(
    connection: Any, device: uuid.UUID, load: RollupLoad, rows: Sequence[RollupRow], batch: pb.StateBatch
) -> None:
    """A page of a load, with its cursor and its word."""
    await connection.execute(_PUT_LOADED, device, *_columns(rows), load.copy)
    await connection.execute(_MOVE_LOAD, device, batch.last_key.SerializeToString(), batch.word)


async def end_load(connection: Any, device: uuid.UUID) -> None:
    """The last page of a load is here: the next pass shows it."""
    await connection.execute(_END_LOAD, device)


async def drop_load(pool: Any, device: uuid.UUID) -> None:
    """Give a load up."""
    await pool.execute(_DROP_LOAD, device)


async def begin_pass(connection: Any, device: uuid.UUID) -> None:
    """A pass begins; what there is of one that was broken off is dropped."""
    await connection.execute(_CLEAR, device)


async def put_passed(connection: Any, device: uuid.UUID, rows: Sequence[RollupRow]) -> None:
    """Rows of a pass, which are not visible yet."""
    await connection.execute(_PUT_PASSED, device, *_columns(rows))


async def show_pass(
    connection: Any, device: uuid.UUID, epoch: int, closing: pb.PassComplete, as_of: Any
) -> None:
    """The pass becomes visible, and the load before it with it. Raises DataLoss."""
    load = await read_load(connection, device)
    copy = await connection.fetchval(_COPY, device, MODEL) if load is None else load.copy
    status = await connection.execute(_MERGE, device, copy or 0)
    merged = int(status.rpartition(" ")[2])
    if merged != closing.sent.rows:
        raise DataLoss(
            f"a pass of counts had {closing.sent.rows} rows, and {merged} are here; it begins anew"
        )
    await connection.execute(_CLEAR, device)
    await connection.execute(
        _SHOW, device, MODEL, epoch, closing.watermark, closing.closing_word, as_of, copy or 0
    )
    await connection.execute(_DROP_LOAD, device)


async def prune_copies(pool: Any, rows: int) -> int:
    """Remove at most `rows` rows of a copy that is no longer visible; how many. 0: there is no such copy."""
    dead = await pool.fetchrow(_DEAD, MODEL)
    if dead is None:
        return 0
    status: str = await pool.execute(_PRUNE, MODEL, dead["device"], dead["copy"], rows)
    return int(status.rpartition(" ")[2])


def _columns(rows: Sequence[RollupRow]) -> list[list[Any]]:
    return [
        [row.video_id for row in rows],
        [row.event_type for row in rows],
        [row.minute for row in rows],
        [row.generation for row in rows],
        [row.count for row in rows],
        [row.value_count for row in rows],
        [row.sum for row in rows],
        [row.min for row in rows],
        [row.max for row in rows],
        [row.m2 for row in rows],
    ]
