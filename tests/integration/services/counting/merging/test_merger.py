"""Merges of runs: whatever they are, and wherever one is cut off, each cell is there once in every snapshot."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from libs.domain import blocks
from libs.domain.cells import Cell
from libs.domain.minutes import MinuteRange
from libs.telemetry.setup import OFF
from services.counting.flush.waiting_runs import WaitingRuns
from services.counting.merging.merger import FAN_IN, Merger
from services.counting.metrics import Metrics
from services.counting.settings import FlushSettings, RecoverySettings
from services.query.question import Question, Size
from services.query.unsettled import Unsettled
from services.query.warm import read_rollups as read_question
from tests.support.eventually import eventually
from tests.support.mortal import Killed, MortalPool
from tests.support.proof import find_wrong
from tests.support.rollups import Key, add_counts, read_rollups

pytestmark = pytest.mark.exact

MINUTE = 28_000_000
VIDEOS = [f"video {n}" for n in range(40)]
_RUNS = "select count(*) from counting.rollup_run"
_LEVELS = (
    "select level, count(*) from counting.rollup_run where is_complete and into_run is null group by level"
)


@pytest_asyncio.fixture
async def database(dsn: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


@pytest_asyncio.fixture
async def pool(dsn: str) -> AsyncIterator[Any]:
    async with asyncpg.create_pool(dsn, min_size=1, max_size=4) as pool:
        yield pool


def merger_of(pool: Any, cells: int = 200_000) -> Merger:
    """Whose transactions merge so many cells."""
    return Merger(pool, FlushSettings(merge_cells=cells), RecoverySettings(), Metrics(OFF), OFF)


async def add_runs(database: Any, count: int, chance: random.Random, cells: int = 60) -> dict[Key, int]:
    """Runs as flushes leave them: some videos have one cell, one has very many."""
    total: dict[Key, int] = {}
    for _ in range(count):
        counts: dict[tuple[str, str, int], int] = {}
        for _ in range(chance.randint(1, cells)):
            video = "hot" if chance.random() < 0.3 else chance.choice(VIDEOS)
            key = (
                video,
                chance.choice(["view", "like"]),
                MINUTE + chance.randrange(40 if video == "hot" else 3),
            )
            counts[key] = chance.randint(1, 300)
        await add_counts(database, counts)
        for key, n in counts.items():
            total[Key(*key)] = total.get(Key(*key), 0) + n
    return total


async def assert_is(database: Any, total: dict[Key, int]) -> None:
    assert {key: cell.count for key, cell in (await read_rollups(database)).items()} == total
    assert [
        each for each in await find_wrong(database) if "generation" not in each and "journal" not in each
    ] == []


@pytest.mark.parametrize("size", [1, 3, 240])
async def test_eight_runs_become_one_and_sixty_four_one_of_them(
    database: Any, pool: Any, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_CELLS", size)
    total = await add_runs(database, FAN_IN**2 + FAN_IN + 3, random.Random(size), 12)
    await merger_of(pool, 1).merge_all()
    await assert_is(database, total)
    assert dict(await database.fetch(_LEVELS)) == {0: 3, 1: 1, 2: 1}
    assert await database.fetchval(_RUNS) == 5


async def test_fewer_than_eight_runs_of_a_level_are_left_alone(database: Any, pool: Any) -> None:
    total = await add_runs(database, FAN_IN - 1, random.Random(1))
    await merger_of(pool).merge_all()
    assert await database.fetchval(_RUNS) == FAN_IN - 1
    await assert_is(database, total)


async def test_a_merger_without_work_asks_one_statement(dsn: str, database: Any) -> None:
    connection = await asyncpg.connect(dsn)
    await add_runs(database, FAN_IN - 1, random.Random(1))
    assert await merger_of(MortalPool(connection, 1)).merge_all() is None
    await add_runs(database, 1, random.Random(1))
    with pytest.raises(Killed):
        await merger_of(MortalPool(connection, 1)).merge_all()
    connection.terminate()


async def test_flushes_are_told_how_many_runs_wait_and_wake_the_merger(database: Any, pool: Any) -> None:
    waiting = WaitingRuns()
    merger = Merger(pool, FlushSettings(), RecoverySettings(), Metrics(OFF), OFF, waiting)
    await add_runs(database, 4 * FAN_IN + 3, random.Random(6), 3)

    async def are_waiting(count: int) -> bool:
        return waiting.count == count

    holding = await pool.acquire()
    async with holding.transaction():
        # Another process that holds the generation's row, as sealing does: no merge gets through.
        await holding.execute("select from counting.generation for update")
        merging = asyncio.create_task(merger.loop.run())
        await eventually(lambda: are_waiting(4 * FAN_IN))
        assert waiting.are_many
    await eventually(lambda: are_waiting(0))
    await pool.release(holding)
    assert dict(await database.fetch(_LEVELS)) == {0: 3, 1: 4}
    await add_runs(database, FAN_IN - 3, random.Random(6), 3)
    waiting.wake_merger()  # as a flush does; else the loop would pause for half a minute

    async def are_merged() -> bool:
        return dict(await database.fetch(_LEVELS)) == {1: 5}

    await eventually(are_merged)
    merging.cancel()


async def test_a_merge_of_large_runs_does_not_hold_up_those_of_small_ones(
    dsn: str, database: Any, pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the runs of all flushes pile up meanwhile, and each read visits every run."""
    monkeypatch.setattr(blocks, "BLOCK_CELLS", 1)
    total = await add_runs(database, FAN_IN, random.Random(6), 300)
    await database.execute("update counting.rollup_run set level = 3")
    assert await merger_of(pool).choose()
    for key, n in (await add_runs(database, FAN_IN, random.Random(8), 3)).items():
        total[key] = total.get(key, 0) + n
    connection = await asyncpg.connect(dsn)
    with suppress(Killed, asyncpg.InterfaceError, asyncpg.PostgresConnectionError):
        await merger_of(MortalPool(connection, 60), 1).merge_all()
    connection.terminate()
    assert dict(await database.fetch(_LEVELS)) == {1: 1}
    assert await database.fetch("select level from counting.rollup_run where not is_complete") == [(4,)]
    await merger_of(pool).merge_all()
    await assert_is(database, total)


async def test_two_mergers_and_flushes_beside_them_lose_and_double_nothing(database: Any, pool: Any) -> None:
    chance = random.Random(7)
    total = await add_runs(database, 3 * FAN_IN, chance)
    reads: list[int] = []

    async def merge() -> None:
        for _ in range(20):
            await merger_of(pool, 1).merge_all()

    async def read(least: int) -> None:
        while not all(task.done() for task in merging):
            reads.append(sum(cell.count for cell in (await read_rollups(reading)).values()))
            assert reads[-1] >= least
            least = reads[-1]

    reading = await pool.acquire()
    merging = [asyncio.create_task(merge()) for _ in range(2)]
    looking = asyncio.create_task(read(sum(total.values())))
    for key, n in (await add_runs(database, 2 * FAN_IN, chance)).items():
        total[key] = total.get(key, 0) + n
    await asyncio.gather(*merging, looking)
    await pool.release(reading)
    await assert_is(database, total)
    assert reads[-1] <= sum(total.values())


async def test_a_read_is_the_brute_force_at_every_step_of_a_merge(
    database: Any, pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_CELLS", 5)
    chance = random.Random(3)
    total = await add_runs(database, 2 * FAN_IN, chance)
    unsettled = Unsettled()

    async def assert_reads() -> None:
        for video in ("hot", chance.choice(VIDEOS), "unknown"):
            start = MINUTE + chance.randrange(40)
            asked = Question(video, "view", MinuteRange(start, start + chance.randrange(10)))
            reading = await read_question(database, unsettled, asked, Size(None, 0))
            expected = sum(
                n
                for key, n in total.items()
                if key[:2] == (video, "view") and start <= key.minute < (asked.minutes.end or 0)
            )
            assert reading.cell == Cell(expected)

    merger = merger_of(pool, 1)
    steps = 0
    while await merger.choose():
        await assert_reads()
        for target, generation in await database.fetch(
            "select run_id, generation from counting.rollup_run where not is_complete"
        ):
            goes_on = True
            while goes_on:
                goes_on = await merger.move_piece(generation, target)
                await assert_reads()
                steps += 1
    assert steps > 4
    await assert_is(database, total)


async def test_a_kill_between_any_two_statements_of_a_merge_leaves_every_cell_once(
    dsn: str, database: Any, pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_CELLS", 4)
    total = await add_runs(database, FAN_IN, random.Random(5), 30)
    unfinished = 0
    for statements in range(60):
        connection = await asyncpg.connect(dsn)
        its_pid = connection.get_server_pid()
        merger = merger_of(MortalPool(connection, statements), 1)
        with suppress(Killed, asyncpg.InterfaceError, asyncpg.PostgresConnectionError):
            await merger.merge_all()
        connection.terminate()

        async def is_gone(pid: int = its_pid) -> bool:
            return not await database.fetchval("select count(*) from pg_stat_activity where pid = $1", pid)

        await eventually(is_gone)
        await assert_is(database, total)
        unfinished += await database.fetchval(
            "select count(*) from counting.rollup_run where not is_complete"
        )
    assert unfinished > 5
    await merger_of(pool).merge_all()
    await assert_is(database, total)
    assert dict(await database.fetch(_LEVELS)) == {1: 1}


async def test_sealing_waits_for_a_merge_and_no_merge_writes_a_sealed_generation(
    dsn: str, database: Any, pool: Any
) -> None:
    await add_runs(database, FAN_IN, random.Random(2))
    holding = await asyncpg.connect(dsn)
    merger = merger_of(pool)
    transaction = holding.transaction()
    await transaction.start()
    await holding.execute("lock table counting.rollup_block in share mode")
    merging = asyncio.create_task(merger.merge_all())

    async def are_locked(count: int) -> bool:
        found = await database.fetchval(
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        )
        return bool(found == count)

    await eventually(lambda: are_locked(1))
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as other:
        sealing = asyncio.create_task(other.execute("update counting.generation set sealed_at = now()"))
        await eventually(lambda: are_locked(2))
        await transaction.rollback()
        await merging
        await sealing
    await holding.close()
    await add_runs(database, FAN_IN, random.Random(4))
    await merger.merge_all()
    assert await database.fetchval("select count(*) from counting.rollup_run where level = 0") == FAN_IN
