"""A pass of counts waits for its peer without a snapshot, and without a connection."""

import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from libs.telemetry.setup import OFF
from services.counting.merging.merger import FAN_IN, Merger
from services.counting.metrics import Metrics
from services.counting.settings import FlushSettings, RecoverySettings
from services.replication import rollup_file
from services.replication.epoch import confirm_life
from services.replication.rollup_sender import PassReading, RollupSender
from services.replication.rollup_source import RollupSource
from services.replication.rollups import MODEL, key_of, unpack_rollups
from services.replication.settings import ReplicationSettings, SenderSettings
from tally.replication.v1 import peers_pb2 as pb
from tests.support.lanes import Clock
from tests.support.regions import region_database
from tests.support.rollups import add_counts
from tests.support.servers import Servers
from tests.support.upkeep import roll_up_of, sealing_of

PEER, DEVICE = uuid.UUID(int=77), uuid.UUID(int=78)
SETTINGS = ReplicationSettings(sender=SenderSettings(batch_size=10))
WAITING = """
select count(*) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
    and (backend_xmin is not null or xact_start is not null)"""

_OF_BEFORE = """
insert into counting.rollup_row (video_id, event_type, minute, generation, count, value_count, sum, min, max, m2)
select 'video ' || n, 'view', 0, 1, 1, 0, 0, null, null, 0 from generate_series(1, 15) as n"""
"""As versions wrote them before there were blocks."""


@pytest_asyncio.fixture
async def pool(servers: Servers, template: str) -> AsyncIterator[Any]:
    async with (
        region_database(servers.postgres_dsn, template) as dsn,
        asyncpg.create_pool(dsn, min_size=2, max_size=4, command_timeout=20) as opened,
    ):
        yield opened


@pytest.mark.parametrize("memory_bytes", [1024 * 1024, 1], ids=["small", "in a file"])
async def test_a_peer_that_gives_no_credit_holds_up_neither_a_snapshot_nor_a_connection(
    pool: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, memory_bytes: int
) -> None:
    monkeypatch.setattr(rollup_file, "_MEMORY_BYTES", memory_bytes)
    life = await confirm_life(pool)
    watermark = await pool.fetchval("select pg_current_snapshot()::text")
    await pool.execute(_OF_BEFORE)
    await _count(pool, range(16, 36))
    subscription = pb.Subscribe(peer_device_id=str(PEER), model_type=MODEL, watermark=watermark, credit=2)
    reading = PassReading(pool, tmp_path)
    sender = RollupSender(pool, SETTINGS, Clock(), DEVICE, life, subscription, reading)
    found = []
    async with aclosing(sender.frames()) as frames:
        begin = await anext(frames)
        assert begin.HasField("pass_begin")
        found += unpack_rollups((await anext(frames)).state_batch)
        async with pool.acquire() as connection:
            assert await connection.fetchval(WAITING) == 0
        assert not list(tmp_path.iterdir())  # the file has no name
        await pool.execute("update counting.rollup_row set count = 2")
        await _count(pool, range(16, 36))
        await sender.acknowledge(pb.Ack(frame=1, credit=10))
        async for frame in frames:
            if frame.HasField("pass_complete"):
                break
            found += unpack_rollups(frame.state_batch)
    assert sorted(row.video_id for row in found) == sorted(f"video {n}" for n in range(1, 36))
    assert {row.count for row in found} == {1}
    assert frame.pass_complete.sent.rows == 35
    assert frame.pass_complete.watermark == begin.pass_begin.target


async def test_passes_during_a_merge_have_every_change_with_the_value_of_their_own_snapshot(
    pool: Any,
) -> None:
    """A merge writes cells anew, under its own id: no pass misses what it has moved, or has it twice."""
    source = RollupSource(pool, await confirm_life(pool), pool)
    merger = Merger(pool, FlushSettings(merge_cells=1_000), RecoverySettings(), Metrics(OFF), OFF)
    videos, counted, seen = range(3_000), dict[str, int](), dict[str, int]()

    async def count(among: range) -> None:
        await _count(pool, among)
        for n in among:
            counted[f"video {n}"] = counted.get(f"video {n}", 0) + 1

    async def make_pass(watermark: str) -> str:
        async with source.open_pass(watermark, 10_000) as opened:
            found = [row for page in [each async for each in opened.pages] for row in page]
        keys = [(row.video_id, row.event_type, row.minute, row.generation) for row in found]
        assert len(keys) == len(set(keys))
        seen.update({row.video_id: row.count for row in found})
        assert seen == counted
        return opened.target

    watermark: str = await pool.fetchval("select pg_current_snapshot()::text")
    for _ in range(FAN_IN - 1):
        await count(videos)
    watermark = await make_pass(watermark)
    await count(range(0, 3_000, 7))  # moved before any pass has seen it
    assert await merger.choose()
    [(target, generation)] = await pool.fetch(
        "select run_id, generation from counting.rollup_run where not is_complete"
    )
    pieces = 0
    while await merger.move_piece(generation, target):
        pieces += 1
        await count(range(pieces, 3_000, 11))
        watermark = await make_pass(watermark)
    assert pieces >= 3
    await make_pass(watermark)
    seen.clear()
    key = None
    while page := await source.read_page(watermark, key, 1_000):
        seen.update({row.video_id: row.count for row in page})
        key = key_of(page[-1])
    assert seen == counted


async def test_a_roll_up_changes_nothing_for_a_peer_and_a_load_has_each_event_once(pool: Any) -> None:
    """Hours, days and totals stay in the region: a peer has the minutes of every generation, and adds up those."""
    source = RollupSource(pool, await confirm_life(pool), pool)
    counted, seen = dict[str, int](), dict[tuple[str, int, int], int]()

    async def make_pass(watermark: str) -> tuple[str, int]:
        async with source.open_pass(watermark, 10_000) as opened:
            found = [row for page in [each async for each in opened.pages] for row in page]
        seen.update({(row.video_id, row.minute, row.generation): row.count for row in found})
        assert _totals(seen) == counted
        return opened.target, len(found)

    watermark: str = await pool.fetchval("select pg_current_snapshot()::text")
    for generation in (1, 2):
        for among in (range(3_000), range(0, 3_000, 7)):
            await _count(pool, among, generation)
            for n in among:
                counted[f"video {n}"] = counted.get(f"video {n}", 0) + 1
        watermark, found = await make_pass(watermark)
        assert found == 3_000
        assert await sealing_of(pool).seal_due() == [generation]
        roll_up, goes_on, pieces = roll_up_of(pool), True, 0
        while goes_on:
            goes_on = await roll_up.roll_piece(generation)
            pieces += 1
            watermark, found = await make_pass(watermark)
            assert found == 0
        assert pieces > 1
    assert await pool.fetchval("select count(*) from counting.rollup_run where generation < 0") > 0
    assert {generation for _, _, generation in seen} == {-2, -3}
    _, about = await source.begin_load()
    assert about == 2 * (3_000 + 429)
    seen.clear()
    key = None
    while page := await source.read_page(watermark, key, 1_000):
        seen.update({(row.video_id, row.minute, row.generation): row.count for row in page})
        key = key_of(page[-1])
    assert _totals(seen) == counted


def _totals(seen: Mapping[tuple[str, int, int], int]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for (video, _, _), count in seen.items():
        totals[video] = totals.get(video, 0) + count
    return totals


async def _count(pool: Any, numbers: range, generation: int = 1) -> None:
    """One event of each of these videos, as a flush adds them."""
    async with pool.acquire() as connection:
        await add_counts(connection, {(f"video {n}", "view", 0): 1 for n in numbers}, generation)
