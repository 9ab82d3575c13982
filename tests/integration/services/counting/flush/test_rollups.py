"""The additions of a flush, in Postgres, against exact fractions."""

import random
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from libs.domain.blocks import Block, encode
from libs.domain.cells import Cell
from libs.domain.entry import Entry
from libs.telemetry.setup import OFF
from services.counting.flush.buffer import Buffer
from services.counting.flush.rollups import apply
from services.counting.journal.entry import NumberedEntry
from services.counting.journal.position import Position
from services.counting.merging.merger import FAN_IN, Merger
from services.counting.metrics import Metrics
from services.counting.settings import FlushSettings, RecoverySettings
from tests.support.life import open_life, take_over
from tests.support.mortal import Killed, Mortal
from tests.support.rollups import add_counts, read_cells, read_rollups
from tests.unit.libs.domain.batches import Row, batch_of
from tests.unit.libs.domain.oracle import Truth

START_US = 1_700_000_000_000_000
MINUTE_US = 60_000_000
LOG, OTHER_LOG = 1, 2
_NOTE_STRANGE = """
create table seen (is_strange boolean);
create function note() returns trigger language plpgsql as $$
begin
    insert into seen select xmin <> pg_current_xact_id()::xid from counting.rollup_block
    where (generation, run_id, first, number) = (new.generation, new.run_id, new.first, new.number);
    return null;
end $$;
create trigger note after insert or update on counting.rollup_block for each row execute function note()"""


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


def blocks_of(events: list[Row]) -> list[Block]:
    """What a flush of these events, one entry each ten, would write."""
    buffer = Buffer()
    for start in range(0, len(events), 10):
        entry = Entry(uuid.UUID(int=0), 0, 0, b"", batch_of(events[start : start + 10]))
        buffer.add(NumberedEntry(1, START_US, entry))
    return encode(buffer.run())


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
        blocks, size = blocks_of(events[start:end]), chance.randint(1, 20)
        await apply(database, log_id, Position(applied[log_id]), Position(to_seq), blocks, size)
        applied[log_id] = to_seq

    expected: dict[tuple[str, str, int], list[float | None]] = defaultdict(list)
    for event in events:
        expected[event.video_id, event.event_type, (event.time_us or 0) // MINUTE_US].append(event.value)
    found = await read_rollups(database)
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
        await apply(database, LOG, Position(seq), Position(seq + 1), blocks_of([event]), 1_000)
    (cell,) = (await read_rollups(database)).values()
    Truth(values).assert_is(cell)
    assert cell.m2 / cell.value_count == pytest.approx(0.08, rel=1e-6)


async def test_events_without_values_and_with_them_share_a_row_in_any_order(database: Any) -> None:
    bare, valued = Row("a", "view", time_us=START_US), Row("a", "view", time_us=START_US, value=3.0)
    for seq, event in enumerate([bare, valued, bare, valued]):
        await apply(database, LOG, Position(seq), Position(seq + 1), blocks_of([event]), 1_000)
    assert list((await read_rollups(database)).values()) == [Cell(4, 2, 6.0, 3.0, 3.0, 0.0)]


async def test_a_checkpoint_that_somebody_else_has_moved_is_left_alone(database: Any) -> None:
    blocks = blocks_of([Row("a", "view", time_us=START_US)])
    assert await apply(database, LOG, Position(0), Position(5), blocks, 1_000)
    for from_seq in (0, 4, 6):
        assert not await apply(database, LOG, Position(from_seq), Position(9), blocks, 1_000)
    assert list((await read_rollups(database)).values()) == [Cell(1)]
    assert await database.fetchval("select applied_seq from counting.checkpoint where log_id = $1", LOG) == 5
    assert await database.fetchval("select count(*) from counting.flush_log") == 1


async def test_a_span_without_events_moves_the_checkpoint_all_the_same(database: Any) -> None:
    await apply(database, LOG, Position(0), Position(3), blocks_of([]), 1_000)  # all of them were duplicates
    assert await read_rollups(database) == {}
    note = await database.fetchrow("select from_seq, to_seq, events, cells from counting.flush_log")
    assert tuple(note) == (0, 3, 0, 0)


async def test_a_flush_that_fails_half_way_leaves_nothing(database: Any) -> None:
    blocks = blocks_of([Row(f"video {n}", "view", time_us=START_US) for n in range(600)])
    blocks[-1] = replace(blocks[-1], events=2**63)  # does not fit the column: the last statement fails
    with pytest.raises(asyncpg.DataError):
        await apply(database, LOG, Position(0), Position(30), blocks, 10)
    assert await read_rollups(database) == {}
    assert await database.fetchval("select count(*) from counting.rollup_run") == 0
    assert await database.fetchval("select applied_seq from counting.checkpoint where log_id = $1", LOG) == 0


async def test_cells_are_of_the_generation_of_the_checkpoint(database: Any) -> None:
    await database.execute("insert into counting.generation values (7)")
    await database.execute(
        "create table counting.rollup_block_7 partition of counting.rollup_block for values in (7)"
    )
    blocks = blocks_of([Row("a", "view", time_us=START_US)])
    await apply(database, LOG, Position(0), Position(1), blocks, 1_000)
    await database.execute("update counting.checkpoint set generation = 7 where log_id = $1", LOG)
    await apply(database, LOG, Position(1), Position(2), blocks, 1_000)
    assert sorted((generation, cell.count) for generation, _, cell in await read_cells(database)) == [
        (1, 1),
        (7, 1),
    ]
    notes = await database.fetch("select generation from counting.flush_log order by to_seq")
    assert [note["generation"] for note in notes] == [1, 7]


async def test_a_block_lies_in_the_page_of_its_row(database: Any) -> None:
    """Neither compressed nor kept elsewhere, with values or without."""
    for seq, value in enumerate((None, 1.5)):
        events = [Row(f"{n:011}", "watched", time_us=START_US, value=value) for n in range(1_000)]
        await apply(database, LOG, Position(seq), Position(seq + 1), blocks_of(events), 1_000)
    found = await database.fetch(
        "select pg_column_size(body) as size, length(body) as length, pg_column_toast_chunk_id(body) as chunk "
        "from counting.rollup_block"
    )
    assert len(found) == 5 + 9
    assert {row["chunk"] for row in found} == {None}
    assert all(row["size"] == row["length"] + 4 for row in found)


async def test_a_kill_between_any_two_statements_of_a_flush_leaves_all_of_it_or_nothing(
    dsn: str, database: Any
) -> None:
    events = [Row(f"video {n}", "view", time_us=START_US) for n in range(700)]
    blocks, applied = blocks_of(events), 0
    for statements in range(20):
        connection = await asyncpg.connect(dsn)
        mortal: Any = Mortal(connection, statements)
        with suppress(Killed, asyncpg.InterfaceError, asyncpg.PostgresConnectionError):
            await apply(mortal, LOG, Position(applied), Position(applied + 1), blocks, 240)
            applied += 1
        connection.terminate()
        counted = sum(cell.count for cell in (await read_rollups(database)).values())
        assert counted == applied * len(events)
        assert await database.fetchval("select coalesce(sum(events), 0) from counting.flush_log") == counted
        if applied:
            break
    assert statements >= 5  # the checkpoint, the run, blocks in three statements, the note


async def test_every_writer_of_blocks_writes_under_the_id_of_its_whole_transaction(
    dsn: str, database: Any
) -> None:
    """T003-48: no snapshot lists the ids of savepoints, so replication would miss what has one."""
    await database.execute(_NOTE_STRANGE)
    counts = {(f"video {n}", "view"): 1 for n in range(5)}
    async with open_life(dsn) as life:
        await life.send(counts)
        assert await life.commit(life.take())
        await life.send(counts)
        assert await take_over(dsn, life.log.log_id)
    for _ in range(FAN_IN):
        await add_counts(database, {("a", "view", 1): 1})
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
        await Merger(pool, FlushSettings(), RecoverySettings(), Metrics(OFF), OFF).merge_all()
    assert await database.fetchval("select count(*) from seen") >= 2 + FAN_IN + 1
    assert await database.fetchval("select count(*) from seen where is_strange") == 0
    async with database.transaction(), database.transaction():  # what it looks for is found
        await database.execute("update counting.rollup_block set number = number")
    assert await database.fetchval("select count(*) from seen where is_strange") > 0
