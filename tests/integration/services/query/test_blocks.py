"""Reads of blocks, and of rows from before there were blocks, against a list of the events."""

import random
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from libs.domain.blocks import encode
from libs.domain.entry import Entry
from libs.domain.minutes import MINUTE_US, MinuteRange
from libs.telemetry.setup import OFF
from services.counting.flush.buffer import Buffer
from services.counting.flush.runs import add_run
from services.counting.journal.entry import NumberedEntry
from services.counting.merging.merger import Merger
from services.counting.metrics import Metrics
from services.counting.settings import FlushSettings, RecoverySettings
from services.query.pending import read_everything
from services.query.question import Question, Size, TooHeavy
from services.query.unsettled import Unsettled
from services.query.warm import read_rollups
from tests.support.rollups import add_counts
from tests.unit.libs.domain.batches import Row, batch_of
from tests.unit.libs.domain.oracle import Truth, cell_of

START = 28_000_000
VIDEOS = ["a", "é", "🎬", "hot", *(f"video {n}" for n in range(30))]
UNBOUNDED = Size(None, 1_000)
_FETCHED = """
select seq_tup_read as scanned, idx_tup_fetch as fetched from pg_stat_xact_user_tables
where relname = 'rollup_block_1'"""
_ROW = """
insert into counting.rollup_row (generation, video_id, event_type, minute, count, value_count, sum, min, max, m2)
values (1, $1, $2, $3, $4, $5, $6, $7, $8, $9)"""


@pytest_asyncio.fixture
async def database(dsn: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


def some_events(chance: random.Random) -> list[Row]:
    return [
        Row(
            "hot" if chance.random() < 0.5 else chance.choice(VIDEOS),
            chance.choice(["view", "watched"]),
            time_us=(START + chance.randrange(300)) * MINUTE_US,
            value=chance.choice([None, float(chance.randint(-1000, 1000)), 1e9 + chance.random()]),
        )
        for _ in range(chance.randint(1, 400))
    ]


async def add_blocks(database: Any, events: list[Row]) -> None:
    """As one flush adds them."""
    buffer = Buffer()
    buffer.add(NumberedEntry(1, START * MINUTE_US, Entry(uuid.UUID(int=0), 0, 0, b"", batch_of(events))))
    async with database.transaction():
        await add_run(database, 1, encode(buffer.run()), 500)


async def add_rows(database: Any, events: list[Row]) -> None:
    """As a version of before has added them."""
    cells: dict[tuple[str, str, int], list[float | None]] = defaultdict(list)
    for event in events:
        cells[event.video_id, event.event_type, (event.time_us or 0) // MINUTE_US].append(event.value)
    for key, values in cells.items():
        cell = cell_of(values)
        told = (cell.count, cell.value_count, cell.sum, cell.min, cell.max, cell.m2)
        await database.execute(_ROW, *key, *told)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("has_rows", [False, True], ids=["blocks", "rows of before, too"])
async def test_every_read_says_what_the_events_say_whatever_was_merged(
    dsn: str, database: Any, seed: int, has_rows: bool
) -> None:
    chance, unsettled = random.Random(seed), Unsettled()
    events = some_events(chance) if has_rows else []
    await add_rows(database, events)
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
        merger = Merger(pool, FlushSettings(merge_cells=1_000), RecoverySettings(), Metrics(OFF), OFF)
        for _ in range(20):
            more = some_events(chance)
            await add_blocks(database, more)
            events += more
            if chance.random() < 0.5:
                await merger.merge_all()
            for video in ("hot", chance.choice(VIDEOS), "unknown"):
                kind, start = chance.choice(["view", "watched"]), START + chance.randrange(300)
                minutes = chance.choice([MinuteRange(), MinuteRange(start), MinuteRange(start, start + 50)])
                question = Question(video, kind, minutes)
                _, _, first, end = question.arguments()
                asked = Truth(
                    [
                        event.value
                        for event in events
                        if (event.video_id, event.event_type) == (video, kind)
                        and first <= (event.time_us or 0) // MINUTE_US < end
                    ]
                )
                asked.assert_is((await read_rollups(database, unsettled, question, UNBOUNDED)).cell)
                strong = await read_everything(database, unsettled, question, UNBOUNDED, 0)
                asked.assert_is(strong.cell)


async def test_a_video_of_very_many_blocks_is_too_heavy_and_others_beside_it_are_not(database: Any) -> None:
    await add_counts(database, {("long", "view", START + n): 1 for n in range(20_000)})
    for n in range(60):  # a run each
        await add_counts(database, {("long", "view", START + n): 1, ("short", "view", START): 1})
    size, unsettled = Size(100, 0), Unsettled()
    with pytest.raises(TooHeavy):
        await read_rollups(database, unsettled, Question("long", "view", MinuteRange()), size)
    with pytest.raises(TooHeavy):
        await read_everything(database, unsettled, Question("long", "view", MinuteRange()), size, 0)
    for minutes, count in ((MinuteRange(), 20_060), (MinuteRange(START + 100), 19_900)):
        question = Question("long", "view", minutes)
        assert (await read_rollups(database, unsettled, question, Size(None, 0))).cell.count == count
    short = await read_rollups(database, unsettled, Question("short", "view", MinuteRange()), size)
    assert short.cell.count == 60


async def test_a_read_finds_blocks_by_their_key_alone(database: Any) -> None:
    """No plan of it reads a table of blocks from end to end, even where there are few."""
    for n in range(20):
        await add_counts(database, {(f"video {each}", "view", START): 1 for each in range(n * 100, 2_000)})
    await database.execute("analyze counting.rollup_run, counting.rollup_block")
    unsettled = Unsettled()
    for n in range(8):  # until the plan is generic
        await read_rollups(database, unsettled, Question(f"video {n}", "view", MinuteRange()), UNBOUNDED)
    async with database.transaction():
        before = await database.fetchrow(_FETCHED)
        await read_rollups(database, unsettled, Question("video 5", "view", MinuteRange()), UNBOUNDED)
        after = await database.fetchrow(_FETCHED)
    assert after["scanned"] == before["scanned"]
    assert 0 < after["fetched"] - before["fetched"] <= 2 * 20
