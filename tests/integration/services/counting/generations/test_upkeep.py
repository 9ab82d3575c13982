"""Sealing and rolling up: every read says what the events say, wherever upkeep is cut off."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from libs.domain import blocks
from libs.domain.grains import COARSE, Grain
from libs.domain.minutes import MinuteRange
from libs.stores.postgres import PostgresSettings
from services.counting.dead_letters.decisions import Decisions
from services.counting.generations import sealing
from services.counting.generations.sealing import Sealing
from services.counting.journal.log import open_log
from services.counting.settings import CountingSettings, FlushSettings, GenerationSettings, RecoverySettings
from services.query.proof import audit, list_grains
from services.query.question import Question
from services.query.spans import cut
from services.query.unsettled import Unsettled
from services.query.warm import read_rollups
from tests.support.eventually import eventually
from tests.support.letters import bury_spooled, old_id
from tests.support.mortal import Killed, MortalPool
from tests.support.proof import find_wrong, find_wrong_grains
from tests.support.upkeep import (
    UNBOUNDED,
    World,
    merger_of,
    minute_row,
    open_world,
    roll_up_of,
    sealing_of,
)
from tests.unit.libs.domain.batches import Row

pytestmark = pytest.mark.exact

NOW, LATE = 1_440 * 20_000 + 61, 1_440 * 17_400
"""Minutes: one that begins neither an hour nor a day, and one years before."""
VIDEOS = ["hot", *(f"video {n}" for n in range(30))]
_SEALED = (
    "select generation from counting.generation where generation > 0 and sealed_at is not null order by 1"
)
_CHECKPOINTS = "select generation from counting.checkpoint order by 1"
_LOCKED = """
select relname from pg_locks join pg_class on pg_class.oid = relation
where pid = pg_backend_pid() and relkind = 'r' and relname like 'rollup\\_block\\_%' order by relname"""
_ROLLED = "select generation from counting.generation where rolled_at is not null order by 1"


@pytest_asyncio.fixture
async def world(dsn: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(blocks, "BLOCK_CELLS", 3)
    monkeypatch.setattr(blocks, "VALUED_BLOCK_CELLS", 3)
    monkeypatch.setattr(sealing, "_WAIT", "set local lock_timeout = 100")
    opened = await open_world(dsn)
    try:
        yield opened
    finally:
        await opened.database.close()


@pytest_asyncio.fixture
async def pool(dsn: str) -> AsyncIterator[Any]:
    async with asyncpg.create_pool(dsn, min_size=1, max_size=4) as pool:
        yield pool


def some_rows(chance: random.Random, count: int = 60) -> list[Row]:
    return [
        minute_row(
            "hot" if chance.random() < 0.3 else chance.choice(VIDEOS),
            chance.choice(["view", "watched"]),
            (NOW if chance.random() < 0.8 else LATE) + chance.randrange(4_000),
            chance.choice([None, float(chance.randint(-1_000, 1_000))]),
        )
        for _ in range(chance.randint(1, count))
    ]


async def assert_some_reads(world: World, chance: random.Random, count: int = 3) -> None:
    for _ in range(count):
        start = chance.choice([NOW, LATE]) + chance.randrange(-100, 4_000)
        minutes = chance.choice(
            [
                MinuteRange(),
                MinuteRange(start),
                MinuteRange(None, start),
                MinuteRange(start, start + chance.choice([0, 5, 59, 200, 3_000])),
            ]
        )
        await world.assert_reads(chance.choice(VIDEOS[:4]), chance.choice(["view", "watched"]), minutes)


@asynccontextmanager
async def holding(dsn: str, statement: str) -> AsyncIterator[None]:
    """The locks of a statement, until the end."""
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute(statement)
            yield
    finally:
        await connection.close()


async def is_waiting(world: World) -> bool:
    """Whether anything waits for a lock."""
    found = await world.database.fetchval(
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    )
    return bool(found)


async def numbers(world: World, statement: str) -> list[int]:
    return [number for (number,) in await world.database.fetch(statement)]


@pytest.mark.parametrize("seed", range(3))
async def test_every_read_is_the_same_at_each_piece_of_a_roll_up(world: World, pool: Any, seed: int) -> None:
    chance, pieces = random.Random(seed), 0
    for _ in range(4):
        for _ in range(chance.randint(1, 4)):
            await world.add(world.logs[0], some_rows(chance))
        await world.journal(world.logs[0], some_rows(chance, 5))
        [generation] = await sealing_of(pool).seal_due()
        await assert_some_reads(world, chance)
        roll_up = roll_up_of(pool)
        while await roll_up.roll_piece(generation):
            pieces += 1
            await assert_some_reads(world, chance)
            assert await find_wrong_grains(world.database) == []
        await world.add(world.logs[0], some_rows(chance))
        await merger_of(pool).merge_all()
        await assert_some_reads(world, chance, 10)
    assert pieces > 5
    assert await find_wrong(world.database) == []
    found = await audit(world.database)
    assert found["counted_events"] == found["journaled_events"] == len(world.counted)
    assert found["grain_discrepancy_events"] == 0
    await world.database.execute(
        "delete from counting.rollup_block_day where ctid = (select min(ctid) from counting.rollup_block_day)"
    )
    assert (await audit(world.database))["grain_discrepancy_events"] > 0


async def test_the_grains_are_listed_with_what_they_hold_and_how_far_rolling_up_is_behind(
    world: World, pool: Any
) -> None:
    for n in range(3):
        for minute in (NOW, NOW + 1, NOW + 60):
            await world.add(world.logs[0], [minute_row(f"video {n}", "view", minute)])
        await sealing_of(pool).seal_due()
    grains, unrolled = await list_grains(world.database)
    held = [
        (Grain(row["grain"]), row["generations"], row["runs"], row["cells"], row["events"]) for row in grains
    ]
    assert held == [
        (Grain.MINUTE, 3, 9, 9, 9),
        *((grain, 0, 0, 0, 0) for grain in COARSE),
    ]
    assert unrolled["generations"] == 3
    assert unrolled["seconds"] > 0
    await roll_up_of(pool).roll_up_all()
    grains, unrolled = await list_grains(world.database)
    held = [
        (Grain(row["grain"]), row["generations"], row["runs"], row["cells"], row["events"]) for row in grains
    ]
    assert held == [
        (Grain.MINUTE, 3, 9, 9, 9),
        (Grain.HOUR, 3, 3, 6, 9),
        (Grain.DAY, 3, 3, 3, 9),
        (Grain.TOTAL, 3, 3, 3, 9),
    ]
    assert all(row["bytes"] > 0 for row in grains)
    assert tuple(unrolled.values()) == (0, 0.0)


async def test_of_rolled_generations_a_total_reads_one_grain_and_a_range_the_minutes_of_its_edges(
    world: World, pool: Any
) -> None:
    for n in range(4):
        await world.add(world.logs[0], [minute_row("hot", "view", NOW + 60 * n)])
        await sealing_of(pool).seal_due()
    await roll_up_of(pool).roll_up_all()
    known = world.unsettled.generations
    await world.assert_reads("hot", "view", MinuteRange())
    assert known.name(cut(MinuteRange())) == {5, -3}
    assert known.name(cut(MinuteRange(NOW + 59, NOW + 119))) == {5, -1}
    await world.assert_reads("hot", "view", MinuteRange(NOW + 60, NOW + 6_000))
    assert known.name(cut(MinuteRange(NOW + 60, NOW + 6_000))) == {5, -1, -2, 2}


async def test_a_read_locks_the_tables_of_the_generations_that_it_needs_however_many_there_are(
    world: World, pool: Any
) -> None:
    for n in range(12):
        await world.add(world.logs[0], [minute_row("hot", "view", NOW + 60 * n)])
        await sealing_of(pool).seal_due()
    await roll_up_of(pool).roll_up_all()
    database, unsettled = world.database, world.unsettled
    for minutes, tables in (
        (MinuteRange(), ["13", "total"]),
        (MinuteRange(NOW + 30, NOW + 90), ["1", "13", "2"]),
        (MinuteRange(NOW + 30, NOW + 3_000), ["1", "13", "day", "hour"]),
    ):
        await world.assert_reads("hot", "view", minutes)
        async with database.transaction():
            question = Question("hot", "view", minutes)
            await read_rollups(database, unsettled, question, UNBOUNDED)
            locked = [name.removeprefix("rollup_block_") for (name,) in await database.fetch(_LOCKED)]
        assert locked == tables


async def test_an_idle_generation_is_not_sealed_and_a_young_one_neither(world: World, pool: Any) -> None:
    assert await sealing_of(pool).seal_due() == []
    await world.add(world.logs[0], some_rows(random.Random(1)))
    assert await Sealing(pool, GenerationSettings()).seal_due() == []
    assert CountingSettings().generations.seal_seconds == 3_600
    assert await sealing_of(pool).seal_due() == [1]


@pytest.mark.parametrize("work", ["sealing", "rolling"])
async def test_a_kill_between_any_two_statements_changes_no_read_and_the_next_run_finishes(
    dsn: str, world: World, pool: Any, work: str
) -> None:
    chance = random.Random(11)
    for _ in range(3):
        await world.add(world.logs[0], some_rows(chance))
    await world.open_log()
    if work == "rolling":
        await sealing_of(pool).seal_due()
    statements, is_done = 0, False
    while not is_done:
        connection = await asyncpg.connect(dsn)
        its_pid = connection.get_server_pid()
        mortal = MortalPool(connection, statements)
        try:
            await (sealing_of(mortal).seal_due() if work == "sealing" else roll_up_of(mortal).roll_up_all())
            is_done = True
        except (Killed, asyncpg.InterfaceError, asyncpg.PostgresConnectionError):
            statements += 1
        connection.terminate()

        async def is_gone(pid: int = its_pid) -> bool:
            return not await pool.fetchval("select count(*) from pg_stat_activity where pid = $1", pid)

        await eventually(is_gone)
        await assert_some_reads(world, chance, 2)
        assert await find_wrong(world.database) == []
        if statements < 6:
            await world.add(chance.choice(world.logs), some_rows(chance, 4))
    assert statements > 5
    assert await numbers(world, _SEALED if work == "sealing" else _ROLLED) == [1]


async def test_sealing_waits_for_the_opening_of_a_log_and_finds_its_checkpoint(
    dsn: str, world: World, pool: Any
) -> None:
    """Without the lock, the log would write a generation that is rolled up."""
    await world.add(world.logs[0], some_rows(random.Random(2)))
    async with holding(
        dsn, "lock table counting.heartbeat in share mode"
    ):  # its checkpoint is inserted by then
        opening = asyncio.create_task(open_log(dsn, PostgresSettings(), RecoverySettings(), "late"))
        await eventually(lambda: is_waiting(world))
        assert await sealing_of(pool).seal_due() == []
    (await opening).abandon()
    assert await numbers(world, _CHECKPOINTS) == [1, 2]
    assert await sealing_of(pool).seal_due() == [1]
    assert await numbers(world, _CHECKPOINTS) == [2, 2]
    await world.open_log()
    assert await numbers(world, _CHECKPOINTS) == [2, 2, 2]


async def test_sealing_waits_for_a_flush_and_the_next_one_writes_the_next_generation(
    dsn: str, world: World, pool: Any
) -> None:
    log = world.logs[0]
    await world.add(log, some_rows(random.Random(3)))
    async with holding(dsn, "select from counting.checkpoint for update"):  # as a flush's compare and set
        assert await sealing_of(pool).seal_due() == []
    assert await numbers(world, _SEALED) == []
    assert await sealing_of(pool).seal_due() == [1]
    await world.add(log, some_rows(random.Random(4)))
    assert await numbers(world, "select distinct generation from counting.flush_log order by 1") == [1, 2]


async def test_sealing_waits_for_a_letter_that_is_replayed_and_it_is_counted_once(
    dsn: str, world: World, pool: Any
) -> None:
    database = world.database
    await world.add(world.logs[0], some_rows(random.Random(3)))
    [first, *_] = await bury_spooled(database, {("hot", "view"): 3}, await old_id(database))
    decisions = Decisions(dsn, PostgresSettings(), RecoverySettings(), FlushSettings())
    async with holding(
        dsn, "lock table counting.replay_log in share mode"
    ):  # its generation is chosen by then
        replaying = asyncio.create_task(decisions.replay(first))
        await eventually(lambda: is_waiting(world))
        assert await sealing_of(pool).seal_due() == []
    await replaying
    assert await sealing_of(pool).seal_due() == [1]
    await roll_up_of(pool).roll_up_all()
    assert await numbers(world, _ROLLED) == [1]
    assert await find_wrong(database) == []


async def test_a_generation_whose_minutes_are_not_what_was_flushed_is_not_rolled_up(
    world: World, pool: Any
) -> None:
    chance = random.Random(5)
    await world.add(world.logs[0], some_rows(chance))
    await world.database.execute("update counting.flush_log set events = events + 1")
    await sealing_of(pool).seal_due()
    await world.add(world.logs[0], some_rows(chance))
    await sealing_of(pool).seal_due()
    await roll_up_of(pool).roll_up_all()
    assert await numbers(world, _ROLLED) == [2]
    await assert_some_reads(world, chance, 10)


async def test_two_upkeeps_flushes_and_openings_at_once_lose_and_double_nothing(
    world: World, pool: Any
) -> None:
    """A reader beside them never sees a total go down, or what was not flushed."""
    chance = random.Random(6)

    async def keep() -> None:
        for _ in range(25):
            await sealing_of(pool).seal_due()
            await merger_of(pool).merge_all()
            await roll_up_of(pool).roll_up_all()

    async def read(connection: Any) -> None:
        question, unsettled, least = Question("hot", "view", MinuteRange()), Unsettled(), 0
        while not all(task.done() for task in keeping):
            found = (await read_rollups(connection, unsettled, question, UNBOUNDED)).cell.count
            most = sum((row.video_id, row.event_type) == ("hot", "view") for row in world.counted) + 60
            assert least <= found <= most
            least = found

    async with pool.acquire() as reader, asyncio.TaskGroup() as tasks:
        keeping = [tasks.create_task(keep()) for _ in range(2)]
        tasks.create_task(read(reader))
        for n in range(40):
            if n % 10 == 5:
                await world.open_log()
            await world.add(chance.choice(world.logs), some_rows(chance))
    assert len(await numbers(world, _ROLLED)) > 3
    await assert_some_reads(world, chance, 20)
    assert await find_wrong(world.database) == []
