"""`as_of` when entries come out of a spool: received long ago, journaled now."""

import time
from pathlib import Path

import asyncpg
import pytest

from libs.domain.entry import Outcome
from libs.domain.minutes import MinuteRange
from services.counting.shard import Shard
from services.query.proof import list_logs
from services.query.question import Question, Size
from services.query.unsettled import Unsettled
from services.query.warm import Reading, read_rollups
from tests.support.entries import as_entry, cut_request
from tests.support.eventually import eventually
from tests.support.proof import open_proof
from tests.support.shards import NEVER, open_shard, quick, send

pytestmark = pytest.mark.exact

ONE = {("spooled", "view"): 1}
HOURS_US = 7_200_000_000
OPENED = "select (extract(epoch from opened_at) * 1000000)::bigint from counting.log where state = 'open'"
FIRST = "select (extract(epoch from received_at) * 1000000)::bigint from counting.journal where seq = 1"


def now_us() -> int:
    """Postgres runs on this machine, and has its clock."""
    return time.time_ns() // 1000


async def drain_old_entry(shard: Shard) -> None:
    """Journal an entry that was spooled two hours ago."""
    spool = shard.spool
    assert spool is not None
    entries = [as_entry(entry) for entry in cut_request(ONE)]
    assert await spool.write(entries, now_us() - HOURS_US) == [Outcome.SPOOLED]

    async def is_drained() -> bool:
        return not spool.contents.entry_count

    await eventually(is_drained)


async def read(dsn: str) -> Reading:
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool, pool.acquire() as connection:
        unsettled = Unsettled()
        [log] = await list_logs(connection, unsettled)
        assert log["lag_seconds"] < HOURS_US / 2_000_000
        question = Question("spooled", "view", MinuteRange(None, None))
        return await read_rollups(connection, unsettled, question, Size(None, 0))


async def test_an_answer_that_lacks_a_drained_entry_is_as_of_before_it_and_not_of_long_ago(
    dsn: str, tmp_path: Path
) -> None:
    async with open_shard(dsn, quick(NEVER), spool_folder=tmp_path) as shard, open_proof(dsn) as connection:
        await drain_old_entry(shard)
        journaled_by_us = now_us()
        reading = await read(dsn)
        assert reading.cell.count == 0
        assert await connection.fetchval(OPENED) <= reading.as_of_us <= journaled_by_us


async def test_an_answer_that_lacks_a_fresh_entry_before_a_drained_one_is_as_of_the_fresh_one(
    dsn: str, tmp_path: Path
) -> None:
    async with open_shard(dsn, quick(NEVER), spool_folder=tmp_path) as shard, open_proof(dsn) as connection:
        assert await send(shard, ONE) == {Outcome.JOURNALED}
        journaled_by_us = now_us()
        await drain_old_entry(shard)
        reading = await read(dsn)
        assert reading.cell.count == 0
        assert await connection.fetchval(FIRST) <= reading.as_of_us <= journaled_by_us
