"""The additions of a flush, in Postgres, against exact fractions."""

import random
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import numpy as np
import pytest
import pytest_asyncio

from libs.domain.cells import Cell
from libs.domain.entry import Entry
from services.counting.flush.buffer import Buffer, MinuteRows
from services.counting.flush.rollups import apply
from services.counting.journal.entry import NumberedEntry
from services.counting.journal.position import Position
from tests.support.life import open_life, take_over
from tests.unit.libs.domain.batches import Row, batch_of
from tests.unit.libs.domain.oracle import Truth

START_US = 1_700_000_000_000_000
MINUTE_US = 60_000_000
LOG, OTHER_LOG = 1, 2
NOTE_SAVEPOINTS = """
create table seen (is_of_savepoint boolean);
create function note() returns trigger language plpgsql as $$
begin
    insert into seen select xmin <> pg_current_xact_id()::xid from counting.rollup_minute
    where (generation, video_id, event_type, minute) = (new.generation, new.video_id, new.event_type, new.minute);
    return null;
end $$;
create trigger note after insert or update on counting.rollup_minute for each row execute function note()"""


@pytest_asyncio.fixture
async def database(dsn: str) -> AsyncIterator[Any]:
    """A connection, and two logs whose checkpoints stand at 0."""
    connection = await asyncpg.connect(dsn)
    try:
        for log_id in (LOG, OTHER_LOG):
            await connection.execute(
                "insert into counting.log (log_id, shard, pids, floor, opening_floor) "
                "select $1, 'test', '{}', floor, floor from public.cluster",
                log_id,
            )
            await connection.execute("insert into counting.checkpoint values ($1, 'rollups', 0, 1)", log_id)
        yield connection
    finally:
        await connection.close()


def rows_of(events: list[Row]) -> MinuteRows:
    """What a flush of these events, one entry each ten, would write."""
    buffer = Buffer()
    for start in range(0, len(events), 10):
        entry = Entry(uuid.UUID(int=0), 0, 0, b"", batch_of(events[start : start + 10]))
        buffer.add(NumberedEntry(1, START_US, entry))
    return buffer.rows()


async def rollups(database: Any) -> dict[tuple[str, str, int], Cell]:
    found = await database.fetch("select * from counting.rollup_minute")
    return {
        (row["video_id"], row["event_type"], row["minute"]): Cell(
            *(row[name] for name in ("count", "value_count", "sum", "min", "max", "m2"))
        )
        for row in found
    }


def random_event(chance: random.Random) -> Row:
    kind = chance.choice(["none", "integer", "fraction", "near"])
    return Row(
        video_id=chance.choice(["a", "é", "🎬"]),
        event_type=f"type_{kind}" if chance.random() < 0.7 else "mixed",
        time_us=START_US + chance.randrange(3) * MINUTE_US,
        value={
            "none": None,
            "integer": float(chance.randint(-(2**40), 2**40)),
            "fraction": chance.uniform(-1e6, 1e6),
            "near": 1e9 + chance.random(),
        }[kind],
    )


@pytest.mark.parametrize("seed", range(4))
async def test_batches_split_anywhere_add_up_to_what_their_events_amount_to(database: Any, seed: int) -> None:
    chance = random.Random(seed)
    events = [random_event(chance) for _ in range(400)]
    cuts = sorted(chance.sample(range(1, 400), 12))
    applied = {LOG: 0, OTHER_LOG: 0}
    for start, end in zip([0, *cuts], [*cuts, 400], strict=True):
        log_id = chance.choice([LOG, OTHER_LOG])
        to_seq = applied[log_id] + end - start
        rows, size = rows_of(events[start:end]), chance.randint(1, 20)
        await apply(database, log_id, Position(applied[log_id]), Position(to_seq), rows, size)
        applied[log_id] = to_seq

    expected: dict[tuple[str, str, int], list[float | None]] = defaultdict(list)
    for event in events:
        expected[event.video_id, event.event_type, (event.time_us or 0) // MINUTE_US].append(event.value)
    found = await rollups(database)
    assert found.keys() == expected.keys()
    for key, cell in found.items():
        Truth(expected[key]).assert_is(cell)
    notes = await database.fetch("select * from counting.flush_log order by log_id, from_seq")
    assert sum(note["events"] for note in notes) == 400
    assert {
        log_id: max((n["to_seq"] for n in notes if n["log_id"] == log_id), default=0) for log_id in applied
    } == applied


async def test_values_far_from_zero_keep_their_variance_flush_by_flush(database: Any) -> None:
    values = [1e9 + tiny for tiny in (0.1, 0.5, 0.9, 0.3, 0.7)] * 2
    for seq, value in enumerate(values):
        event = Row("a", "watched", time_us=START_US, value=value)
        await apply(database, LOG, Position(seq), Position(seq + 1), rows_of([event]), 1_000)
    (cell,) = (await rollups(database)).values()
    Truth(values).assert_is(cell)
    assert cell.m2 / cell.value_count == pytest.approx(0.08, rel=1e-6)


async def test_events_without_values_and_with_them_share_a_row_in_any_order(database: Any) -> None:
    bare, valued = Row("a", "view", time_us=START_US), Row("a", "view", time_us=START_US, value=3.0)
    for seq, event in enumerate([bare, valued, bare, valued]):
        await apply(database, LOG, Position(seq), Position(seq + 1), rows_of([event]), 1_000)
    assert list((await rollups(database)).values()) == [Cell(4, 2, 6.0, 3.0, 3.0, 0.0)]


async def test_a_checkpoint_that_somebody_else_has_moved_is_left_alone(database: Any) -> None:
    rows = rows_of([Row("a", "view", time_us=START_US)])
    assert await apply(database, LOG, Position(0), Position(5), rows, 1_000)
    for from_seq in (0, 4, 6):
        assert not await apply(database, LOG, Position(from_seq), Position(9), rows, 1_000)
    assert list((await rollups(database)).values()) == [Cell(1)]
    assert await database.fetchval("select applied_seq from counting.checkpoint where log_id = $1", LOG) == 5
    assert await database.fetchval("select count(*) from counting.flush_log") == 1


async def test_a_span_without_events_moves_the_checkpoint_all_the_same(database: Any) -> None:
    await apply(database, LOG, Position(0), Position(3), rows_of([]), 1_000)  # all of them were duplicates
    assert await rollups(database) == {}
    note = await database.fetchrow("select from_seq, to_seq, events, cells from counting.flush_log")
    assert tuple(note) == (0, 3, 0, 0)


async def test_a_flush_that_fails_half_way_leaves_nothing(database: Any) -> None:
    events = [Row(f"video {n}", "view", time_us=START_US) for n in range(30)]
    rows = rows_of(events)
    rows.cells.minute[-1] = 2**40  # does not fit the column: the last statement fails
    with pytest.raises(asyncpg.DataError):
        await apply(database, LOG, Position(0), Position(30), rows, 10)
    assert await rollups(database) == {}
    assert await database.fetchval("select applied_seq from counting.checkpoint where log_id = $1", LOG) == 0


async def test_rows_that_are_new_and_rows_that_are_not_come_to_the_same(database: Any) -> None:
    old = [random_event(random.Random(n)) for n in range(50)]
    new = [Row(f"video {n}", "view", time_us=START_US, value=None if n < 200 else n / 7) for n in range(400)]
    await apply(database, LOG, Position(0), Position(1), rows_of(old), 1_000)
    rows = rows_of(old + new)
    is_new = np.array([video_id.startswith("video") for video_id in rows.video_id])
    assert await apply(database, LOG, Position(1), Position(2), rows, 150, is_new)
    assert await apply(database, LOG, Position(2), Position(3), rows, 150)
    found = await rollups(database)
    for event in new:
        values = [event.value] * 2
        Truth(values).assert_is(found[event.video_id, "view", START_US // MINUTE_US])
    assert sum(cell.count for cell in found.values()) == 3 * len(old) + 2 * len(new)


async def test_a_row_that_was_there_after_all_fails_the_flush_as_a_whole(database: Any) -> None:
    events = [Row(f"video {n:03}", "view", time_us=START_US) for n in range(300)]
    await apply(database, OTHER_LOG, Position(0), Position(1), rows_of(events[250:251]), 1_000)
    rows = rows_of(events)
    with pytest.raises(asyncpg.UniqueViolationError):
        await apply(database, LOG, Position(0), Position(300), rows, 100, np.ones(300, np.bool_))
    assert len(await rollups(database)) == 1
    assert await database.fetchval("select applied_seq from counting.checkpoint where log_id = $1", LOG) == 0
    assert await apply(database, LOG, Position(0), Position(300), rows, 100)
    assert sum(cell.count for cell in (await rollups(database)).values()) == 301


async def test_a_row_is_of_the_generation_of_its_checkpoint(database: Any) -> None:
    await database.execute("insert into counting.generation values (7)")
    await database.execute(
        "create table counting.rollup_minute_7 partition of counting.rollup_minute for values in (7)"
    )
    await apply(database, LOG, Position(0), Position(1), rows_of([Row("a", "view", time_us=START_US)]), 1_000)
    await database.execute("update counting.checkpoint set generation = 7 where log_id = $1", LOG)
    await apply(database, LOG, Position(1), Position(2), rows_of([Row("a", "view", time_us=START_US)]), 1_000)
    found = await database.fetch("select generation, count from counting.rollup_minute order by generation")
    assert [tuple(row) for row in found] == [(1, 1), (7, 1)]
    notes = await database.fetch("select generation from counting.flush_log order by to_seq")
    assert [note["generation"] for note in notes] == [1, 7]


async def test_flush_and_recovery_write_under_the_id_of_their_whole_transaction(
    dsn: str, database: Any
) -> None:
    """T003-48: no snapshot lists the ids of savepoints, so replication would miss rows that have one."""
    await database.execute(NOTE_SAVEPOINTS)
    async with open_life(dsn) as life:
        await life.send({("flushed", "view"): 1})
        assert await life.commit(life.take())
        await life.send({("recovered", "view"): 1})
        assert await take_over(dsn, life.log.log_id)
    assert [row["is_of_savepoint"] for row in await database.fetch("select * from seen")] == [False, False]
    async with database.transaction(), database.transaction():  # what it looks for is found
        await database.execute("update counting.rollup_minute set count = count")
    assert await database.fetchval("select count(*) from seen where is_of_savepoint") == 2
