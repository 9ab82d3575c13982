"""A stream ends when the database behind it is another one: what it took for sent was perhaps never there."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from libs.domain.blocks import hash_of
from services.replication import rollup_blocks, rollup_source, rollups, rows
from services.replication.epoch import Life, check_life, confirm_life
from services.replication.hashing import COLUMNS_HASH
from services.replication.passes import count_load, plan_pass, read_load_page, read_page
from services.replication.regions import put_own, put_region
from services.replication.rollup_source import RollupSource
from services.replication.rows import NIL, START
from services.replication.settings import ReplicationSettings, RollupSettings, SenderSettings
from services.replication.sync import SyncService
from services.replication.words import make_word
from tally.contract.errors import PeerMismatch
from tally.replication.v1 import peers_pb2 as pb
from tests.support.lanes import Clock
from tests.support.regions import region_database
from tests.support.rollups import add_counts
from tests.support.servers import Servers

PEER = uuid.UUID(int=77)
SETTINGS = ReplicationSettings(
    sender=SenderSettings(poll_seconds=0.02, gather_seconds=0.0, idle_pass_seconds=0.02),
    rollups=RollupSettings(pass_seconds=0.02, most_busy_share=1.0),
)
NOW = "select pg_current_snapshot()::text"
NEVER = "1000000000000:1000000000000:"
COLUMNS = {rows.MODEL: COLUMNS_HASH, rollups.MODEL: rollups.COLUMNS_HASH}
FAIL_OVER = "update public.cluster set epoch = epoch + 1"  # a part of the identity, as the timeline is


@pytest_asyncio.fixture
async def pool(servers: Servers, template: str) -> AsyncIterator[Any]:
    async with (
        region_database(servers.postgres_dsn, template) as dsn,
        asyncpg.create_pool(dsn, min_size=1, max_size=4, command_timeout=20) as opened,
    ):
        yield opened


@pytest.mark.parametrize("model", [rows.MODEL, rollups.MODEL])
async def test_a_stream_ends_when_the_database_fails_over_between_two_passes(pool: Any, model: str) -> None:
    """The promoted standby gives ids out again: rows with them would be taken for sent."""
    device = await pool.fetchval("select cluster_id from public.cluster")
    life = await confirm_life(pool)
    await put_own(pool, device, "own", life.epoch)
    await put_region(pool, PEER, "peer", "elsewhere:1", "follow", 0)
    watermark = await pool.fetchval(NOW)
    word = await make_word(pool, PEER, model, life, watermark)
    has_passed = asyncio.Event()

    async def requests() -> AsyncIterator[pb.SyncRequest]:
        yield pb.SyncRequest(
            subscribe=pb.Subscribe(
                peer_device_id=str(PEER),
                device_id=str(device),
                model_type=model,
                columns_hash=COLUMNS[model],
                epoch=life.epoch,
                watermark=watermark,
                closing_word=word,
                credit=1_000,
            )
        )
        await asyncio.Event().wait()

    async def write(response: pb.SyncResponse) -> None:
        if response.HasField("pass_complete"):
            has_passed.set()

    serving = asyncio.create_task(SyncService(pool, SETTINGS, Clock(), device).serve(requests(), write))
    try:
        await asyncio.wait_for(has_passed.wait(), 10)
        await pool.execute(FAIL_OVER)
        with pytest.raises(PeerMismatch, match="new stream"):
            await asyncio.wait_for(serving, 10)
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def open_pass(pool: Any, life: Life, watermark: str) -> None:
    async with RollupSource(pool, life, pool).open_pass(watermark, 10):
        pass


READS: dict[str, Callable[[Any, Life, str], Any]] = {
    "plan": plan_pass,
    "page": lambda pool, life, mark: read_page(pool, life, mark, mark, START, [], 10),
    "target": lambda pool, life, mark: read_page(pool, life, "1:1:", mark, START, [], 10),
    "count": lambda pool, life, mark: count_load(pool, life, NIL, mark),
    "load": lambda pool, life, mark: read_load_page(pool, life, NIL, mark, NIL, 10),
    "word": lambda pool, life, mark: make_word(pool, PEER, rows.MODEL, life, mark),
    "pass of counts": open_pass,
    "page of counts": lambda pool, life, mark: RollupSource(pool, life, pool).read_page(mark, None, 10),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
async def test_nothing_is_read_or_said_for_a_stream_of_another_life_of_the_database(
    pool: Any, read: Callable[[Any, Life, str], Any]
) -> None:
    life, watermark = await confirm_life(pool), await pool.fetchval(NOW)
    await read(pool, life, watermark)
    with pytest.raises(PeerMismatch, match="above everything"):
        await read(pool, life, NEVER)
    await pool.execute(FAIL_OVER)
    with pytest.raises(PeerMismatch, match="promoted"):
        await read(pool, life, watermark)
    await read(pool, await confirm_life(pool), watermark)


async def test_a_life_is_told_by_each_part_of_its_identity(pool: Any) -> None:
    life = await confirm_life(pool)
    await check_life(pool, life)
    for other in (
        Life(life.epoch + 1, life.cluster_epoch, life.timeline, life.system_identifier),
        Life(life.epoch, life.cluster_epoch + 1, life.timeline, life.system_identifier),
        Life(life.epoch, life.cluster_epoch, life.timeline + 1, life.system_identifier),
        Life(life.epoch, life.cluster_epoch, life.timeline, "another"),
    ):
        with pytest.raises(PeerMismatch):
            await check_life(pool, other)


async def test_what_is_older_than_half_of_all_transaction_ids_is_not_sent_in_every_pass(
    pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its 32 bits look newer than the newest id. Such rows are made by a column in the place of the system's."""
    await pool.execute(
        """insert into counting.rollup_row
            (video_id, event_type, minute, generation, count, value_count, sum, min, max, m2)
        select 'row ' || n, 'view', 0, 1, 1, 0, 0, null, null, 0 from unnest(array[-10, 10]) as n"""
    )
    async with pool.acquire() as connection:
        for video in ("block -10", "block 10"):
            await add_counts(connection, {(video, "view", 0): 1})
    id_before = (
        "((pg_snapshot_xmax(pg_current_snapshot())::text::int8 - {} + 4294967296) & 4294967295)::text::xid"
    )
    aged = f"""(
        select rollup.*, {id_before.format("split_part(video_id, ' ', 2)::int8")} as xmin
        from counting.rollup_row as rollup
    ) as aged"""
    changed = rollup_source._CHANGED.replace("counting.rollup_row", aged)
    monkeypatch.setattr(rollup_source, "_CHANGED", changed)
    age = f"case first when {hash_of(b'block 10')} then 10 else -10 end"
    aged = f"(select block.*, {id_before.format(age)} as xmin from counting.rollup_block as block) as block"
    for name in ("_HAS_CHANGED", "_READ_CHANGED"):
        changed = getattr(rollup_blocks, name).replace("counting.rollup_block as block", aged)
        monkeypatch.setattr(rollup_blocks, name, changed)
    source = RollupSource(pool, await confirm_life(pool), pool)
    watermark = await pool.fetchval(NOW)
    before = int(watermark.partition(":")[0]) - 20
    found = []
    async with source.open_pass(f"{before}:{before}:", 10) as opened:
        async for page in opened.pages:
            found += [row.video_id for row in page]
    assert found == ["row 10", "block 10"]
