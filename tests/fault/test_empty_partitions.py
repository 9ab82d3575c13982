"""Journal partitions that are empty and below every floor are dropped; no other is, and nothing waits for it."""

import asyncio
import datetime as dt
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from services.counting.recovery import empty_partitions
from services.counting.recovery.empty_partitions import drop_empty_partitions
from services.counting.recovery.opening_floors import raise_opening_floors
from tally.contract.request_id import first_id_of, make_request_id, time_ms_of
from tests.support.eventually import eventually
from tests.support.letters import bury_spooled, open_decisions
from tests.support.proof import open_proof
from tests.support.rollups import count_of
from tests.support.shards import NEVER, open_shard, quick, send
from tests.support.stack import OpenService

pytestmark = pytest.mark.exact

DAY_MS = 86_400_000
_PARTITIONS = """
select relname::text, inhdetachpending from pg_inherits join pg_class on pg_class.oid = inhrelid
where inhparent = 'counting.journal'::regclass order by relname"""
_TABLES = "select count(*) from pg_class where relkind = 'r' and relname ~ '^journal_2'"
_INSERT = """
insert into counting.journal (request_id, partition, log_id, seq, received_at, events, request_hash, payload)
values ($1, 0, 1, 1, now(), 1, 0, '')"""
_WAITS = """
select exists (
    select from pg_stat_activity where query like 'alter table counting.journal detach%' and wait_event_type = 'Lock'
)"""
_OPEN = """
insert into counting.log (log_id, shard, pids, floor, opening_floor, state)
select 1, 's', '{}', floor, $1, $2 from public.cluster"""


@pytest_asyncio.fixture
async def database(dsn: str) -> AsyncIterator[Any]:
    async with open_proof(dsn) as connection:
        yield connection


@pytest_asyncio.fixture
async def pool(dsn: str) -> AsyncIterator[Any]:
    async with asyncpg.create_pool(dsn, min_size=2, max_size=4) as opened:
        yield opened


async def floor_day(database: Any) -> int:
    return time_ms_of(await database.fetchval("select floor from public.cluster")) // DAY_MS


async def make_old(database: Any, *days_before_floor: int) -> list[str]:
    """Partitions of days before that of the floor, as they are made ahead of time; their names."""
    names = []
    for days in sorted(days_before_floor, reverse=True):
        day = await floor_day(database) - days
        name = f"journal_{dt.datetime.fromtimestamp(day * 86_400, tz=dt.UTC):%Y_%m_%d}"
        first, end = first_id_of(day * DAY_MS), first_id_of((day + 1) * DAY_MS)
        await database.execute(f"create table counting.{name} (like counting.journal including all)")
        await database.execute(
            f"alter table counting.journal attach partition counting.{name} for values from ('{first}') to ('{end}')"
        )
        names.append(name)
    return names


async def partitions(database: Any) -> list[str]:
    return [row["relname"] for row in await database.fetch(_PARTITIONS)]


async def id_of(database: Any, days_before_floor: int) -> uuid.UUID:
    return make_request_id((await floor_day(database) - days_before_floor) * DAY_MS + 1)


async def test_only_what_is_empty_and_below_the_floor_is_dropped(database: Any, pool: Any) -> None:
    kept = await partitions(database)  # from the day of the floor on, all of them empty
    three, two, one = await make_old(database, 3, 2, 1)
    await database.execute(_INSERT, await id_of(database, 2))
    assert await drop_empty_partitions(pool) == 2
    assert await partitions(database) == [two, *kept]
    assert await database.fetchval(_TABLES) == len(kept) + 1
    assert await drop_empty_partitions(pool) == 0
    assert {three, one}.isdisjoint(await partitions(database))


@pytest.mark.parametrize(("state", "is_dropped"), [("open", False), ("closed", False), ("settled", True)])
async def test_what_a_log_may_still_need_is_kept_until_it_is_settled(
    database: Any, pool: Any, state: str, is_dropped: bool
) -> None:
    [name] = await make_old(database, 2)
    await database.execute(_OPEN, await id_of(database, 2), state)
    assert await drop_empty_partitions(pool) == is_dropped
    assert (name not in await partitions(database)) is is_dropped


async def test_many_are_dropped_a_part_at_a_time(
    database: Any, pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(empty_partitions, "MOST_DROPS", 2)
    await make_old(database, 1, 2, 3)
    assert [await drop_empty_partitions(pool) for _ in range(3)] == [2, 1, 0]


async def test_two_shards_at_once_drop_each_partition_once(database: Any, pool: Any) -> None:
    kept = await partitions(database)
    await make_old(database, 1, 2, 3, 4)
    dropped: Sequence[int] = await asyncio.gather(*(drop_empty_partitions(pool) for _ in range(3)))
    assert sum(dropped) == 4
    assert await partitions(database) == kept


async def test_behind_a_long_reader_inserts_go_on_and_an_interrupted_detach_is_finalized_later(
    dsn: str, database: Any, pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(empty_partitions, "LOCK_SECONDS", 1.0)
    kept = await partitions(database)
    [name] = await make_old(database, 1)
    async with open_proof(dsn) as reader, open_shard(dsn) as shard:
        async with reader.transaction():
            await reader.fetchval("select count(*) from counting.journal")
            dropping = asyncio.create_task(drop_empty_partitions(pool))

            async def is_waiting() -> bool:
                return bool(await database.fetchval(_WAITS))

            await eventually(is_waiting)
            async with asyncio.timeout(0.5):
                await send(shard, {("video", "view"): 1})
            assert await dropping == 0
            assert await reader.fetchval("select count(*) from counting.journal") == 1
        pending = [row["relname"] for row in await database.fetch(_PARTITIONS) if row["inhdetachpending"]]
        assert pending == [name]
        assert await drop_empty_partitions(pool) == 1
        assert await partitions(database) == kept


async def test_a_floor_that_is_ahead_of_this_machines_clock_costs_no_partition(
    database: Any, pool: Any
) -> None:
    kept = await partitions(database)
    await database.execute("update public.cluster set floor = $1", await id_of(database, -40))
    assert await drop_empty_partitions(pool) == 0
    assert await partitions(database) == kept


async def test_the_upkeep_of_a_shard_drops_them(open_service: OpenService, database: Any) -> None:
    kept = await partitions(database)
    await make_old(database, 1, 2)
    async with open_service("counting"):

        async def are_dropped() -> bool:
            return await partitions(database) == kept

        await eventually(are_dropped)


async def test_a_partition_that_was_detached_and_not_dropped_is_dropped_later(
    database: Any, pool: Any
) -> None:
    kept = await partitions(database)
    empty, full = await make_old(database, 2, 1)
    await database.execute(_INSERT, await id_of(database, 1))
    for name in (empty, full):
        await database.execute(f"alter table counting.journal detach partition counting.{name}")
    assert await drop_empty_partitions(pool) == 1
    assert await partitions(database) == [full, *kept]  # entries are never thrown away


async def test_a_dead_letter_of_a_dropped_day_can_still_be_replayed(
    dsn: str, database: Any, pool: Any
) -> None:
    await make_old(database, 3)
    assert await drop_empty_partitions(pool) == 1
    [key] = await bury_spooled(database, {("late", "view"): 4}, await id_of(database, 3))
    assert (await open_decisions(dsn).replay(key)).letter["state"] == "replayed"
    assert await count_of(database, "late") == 4


async def test_a_log_that_stays_open_lets_go_of_old_partitions_once_its_entries_there_are_applied(
    dsn: str, database: Any, pool: Any
) -> None:
    [_, name] = await make_old(database, 2, 1)
    async with open_shard(dsn, quick(NEVER)) as shard:
        # As if it had been opened two days before the floor of today, and its oldest entry were of the day after.
        oldest, entry_id = await id_of(database, 2), await id_of(database, 1)
        floor = await database.fetchval("select floor from public.cluster")
        await database.execute("update counting.log set opening_floor = $1, floor = $1", oldest)
        await send(shard, {("video", "view"): 1}, entry_id)
        await raise_opening_floors(pool)
        assert await database.fetchval("select opening_floor from counting.log") == oldest
        await database.execute("update counting.log set floor = $1", floor)
        await raise_opening_floors(pool)
        assert (
            await database.fetchval("select opening_floor from counting.log") == oldest
        )  # the entry is not applied
        await database.execute("update counting.checkpoint set applied_seq = 1")
        await raise_opening_floors(pool)
        assert await database.fetchval("select opening_floor from counting.log") == floor
        await database.execute(
            "update counting.checkpoint set applied_seq = 0"
        )  # what the shard itself takes for granted
    assert name in await partitions(database)
