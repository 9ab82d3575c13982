"""A pass of counts waits for its peer without a snapshot, and without a connection."""

import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from services.replication import rollup_file
from services.replication.epoch import confirm_life
from services.replication.rollup_sender import PassReading, RollupSender
from services.replication.rollups import MODEL, unpack_rollups
from services.replication.settings import ReplicationSettings, SenderSettings
from tally.replication.v1 import peers_pb2 as pb
from tests.support.lanes import Clock
from tests.support.regions import region_database
from tests.support.servers import Servers

PEER, DEVICE = uuid.UUID(int=77), uuid.UUID(int=78)
SETTINGS = ReplicationSettings(sender=SenderSettings(batch_size=10))
WAITING = """
select count(*) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
    and (backend_xmin is not null or xact_start is not null)"""


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
    await pool.execute(
        """insert into counting.rollup_minute
            (video_id, event_type, minute, generation, count, value_count, sum, min, max, m2)
        select 'video ' || n, 'view', 0, 1, 1, 0, 0, null, null, 0 from generate_series(1, 35) as n"""
    )
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
        await pool.execute("update counting.rollup_minute set count = 2")
        await sender.acknowledge(pb.Ack(frame=1, credit=10))
        async for frame in frames:
            if frame.HasField("pass_complete"):
                break
            found += unpack_rollups(frame.state_batch)
    assert sorted(row.video_id for row in found) == sorted(f"video {n}" for n in range(1, 36))
    assert {row.count for row in found} == {1}
    assert frame.pass_complete.sent.rows == 35
    assert frame.pass_complete.watermark == begin.pass_begin.target
