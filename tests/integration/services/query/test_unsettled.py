"""Reads look into the journal partitions that a log not settled may need, and lock no others."""

import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from libs.domain.minutes import MinuteRange
from services.query.pending import read_everything
from services.query.proof import list_logs
from services.query.question import Question, Size
from services.query.unsettled import Unsettled
from services.query.warm import read_rollups
from tally.contract.request_id import first_id_of, make_request_id, time_ms_of
from tests.support.entries import cut_request
from tests.support.proof import open_proof

DAY_MS = 86_400_000
OLD_DAYS = 20
QUESTION, SIZE = Question("video", "view", MinuteRange()), Size(100, 100)
_OPEN = """
insert into counting.log (log_id, shard, pids, floor, opening_floor)
select $1, 's', '{}', floor, coalesce($2, floor) from public.cluster"""
_CHECKPOINT = "insert into counting.checkpoint (log_id, consumer, generation) values ($1, 'rollups', 1)"
_INSERT = """
insert into counting.journal (request_id, partition, log_id, seq, received_at, events, request_hash, payload)
values ($1, $2, $3, 1, now() - interval '1 hour', 1, 0, $4)"""
_LOCKED = """
select count(*) from pg_locks join pg_class on pg_class.oid = relation
where pid = pg_backend_pid() and relkind = 'r' and relname like 'journal\\_%'"""


@pytest_asyncio.fixture
async def database(dsn: str) -> AsyncIterator[Any]:
    """With partitions of days long past, all of them empty."""
    async with open_proof(dsn) as connection:
        floor_day = time_ms_of(await connection.fetchval("select floor from public.cluster")) // DAY_MS
        for day in range(floor_day - OLD_DAYS, floor_day):
            name = f"journal_{dt.datetime.fromtimestamp(day * 86_400, tz=dt.UTC):%Y_%m_%d}"
            first, end = first_id_of(day * DAY_MS), first_id_of((day + 1) * DAY_MS)
            await connection.execute(f"create table counting.{name} (like counting.journal including all)")
            await connection.execute(
                f"alter table counting.journal attach partition counting.{name} "
                f"for values from ('{first}') to ('{end}')"
            )
        yield connection


async def open_log(database: Any, log_id: int, opening_floor: Any = None) -> None:
    await database.execute(_OPEN, log_id, opening_floor)
    await database.execute(_CHECKPOINT, log_id)


async def read(database: Any, unsettled: Unsettled, way: str) -> int:
    if way == "strong":
        return (await read_everything(database, unsettled, QUESTION, SIZE, 3)).cell.count
    if way == "range":
        return (await read_rollups(database, unsettled, QUESTION, SIZE)).cell.count
    return len(await list_logs(database, unsettled))


@pytest.mark.parametrize("way", ["strong", "range", "logs"])
async def test_a_read_locks_no_partition_of_days_long_past(database: Any, way: str) -> None:
    await open_log(database, 1)
    unsettled = Unsettled()
    for _ in range(8):  # until Postgres has a generic plan
        await read(database, unsettled, way)
    async with database.transaction():
        await read(database, unsettled, way)
        assert 0 < await database.fetchval(_LOCKED) < OLD_DAYS


async def test_a_log_that_needs_older_days_than_the_last_read_is_read_in_full(database: Any) -> None:
    """As when a floor was lowered, or another server has an older snapshot."""
    await open_log(database, 1)
    unsettled = Unsettled()
    assert await read(database, unsettled, "strong") == 0
    floor_ms = time_ms_of(await database.fetchval("select floor from public.cluster"))
    old_ms = floor_ms - 10 * DAY_MS
    await open_log(database, 2, first_id_of(old_ms))
    request_id = make_request_id(old_ms + 1)
    [entry] = cut_request({("video", "view"): 1}, request_id)
    await database.execute(_INSERT, request_id, entry.partition, 2, entry.payload)
    reading = await read_everything(database, unsettled, QUESTION, SIZE, entry.partition)
    assert reading.cell.count == 1
    as_of_us = (await read_rollups(database, unsettled, QUESTION, SIZE)).as_of_us
    opened_us = await database.fetchval(
        "select (extract(epoch from opened_at) * 1000000)::bigint from counting.log where log_id = 2"
    )
    assert as_of_us == opened_us  # the rollups lack the entry
