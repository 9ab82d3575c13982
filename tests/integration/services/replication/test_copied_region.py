"""A copy of a region, with a new id, still has the counts of the region that it was made from."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from libs.domain.minutes import MinuteRange
from libs.telemetry.setup import OFF
from services.query.question import Question, Size
from services.query.regions import read_parts
from services.replication import rollups, rows
from services.replication.epoch import confirm_life
from services.replication.hashing import COLUMNS_HASH
from services.replication.lanes import Lanes
from services.replication.metrics import ReplicationMetrics
from services.replication.regions import check_counts, put_own, put_region
from services.replication.settings import ReplicationSettings
from services.replication.snapshot_import import SnapshotImporter
from services.replication.sync import SyncService
from tally.contract.errors import PeerMismatch
from tally.replication.v1 import peers_pb2 as pb
from tests.support.eventually import eventually
from tests.support.lanes import Clock
from tests.support.regions import FAST, region_database
from tests.support.rollups import add_counts
from tests.support.servers import Servers

QUESTION, SIZE = Question("video", "view", MinuteRange(None, None)), Size(100, 100)
ORIGINAL, COPY, PEER = uuid.UUID(int=1), uuid.UUID(int=2), uuid.UUID(int=3)
COUNT = {("video", "view", 0): 7}


@pytest_asyncio.fixture
async def pool(servers: Servers, template: str) -> AsyncIterator[Any]:
    async with (
        region_database(servers.postgres_dsn, template) as dsn,
        asyncpg.create_pool(dsn, min_size=1, max_size=4, command_timeout=20) as opened,
    ):
        yield opened


async def subscribe(pool: Any, model: str) -> None:
    """As the peer does. A stream that begins ends with the first frame."""

    async def requests() -> AsyncIterator[pb.SyncRequest]:
        columns = {rows.MODEL: COLUMNS_HASH, rollups.MODEL: rollups.COLUMNS_HASH}[model]
        yield pb.SyncRequest(
            subscribe=pb.Subscribe(
                peer_device_id=str(PEER),
                device_id=str(COPY),
                model_type=model,
                columns_hash=columns,
                credit=9,
            )
        )

    async def write(response: pb.SyncResponse) -> None:
        pass

    await SyncService(pool, ReplicationSettings(), Clock(), COPY).serve(requests(), write)


async def test_counts_of_a_copied_region_are_refused_until_an_operator_decides(pool: Any) -> None:
    epoch = (await confirm_life(pool)).epoch
    async with pool.acquire() as connection:
        await add_counts(connection, COUNT)
    await put_own(pool, ORIGINAL, "original", epoch)
    await check_counts(pool)
    for _ in range(2):  # after a restart as well
        await put_own(pool, COPY, "copy", epoch)
        await put_region(pool, ORIGINAL, "original", "elsewhere:1", "follow", epoch)
        await put_region(pool, PEER, "peer", "elsewhere:2", "follow", epoch)
        with pytest.raises(PeerMismatch, match=f"copy of region {ORIGINAL}.*docs/replication.md"):
            await subscribe(pool, rollups.MODEL)
        await subscribe(pool, rows.MODEL)
    await pool.execute("update replication.region set counts_of = null where is_own")
    await put_own(pool, COPY, "copy", epoch)
    await subscribe(pool, rollups.MODEL)


async def test_a_copied_region_receives_no_counts_either_and_its_lane_says_why(
    pool: Any, tmp_path: Path
) -> None:
    async with pool.acquire() as connection:
        await add_counts(connection, COUNT)
    await put_own(pool, ORIGINAL, "original", 1)
    await put_own(pool, COPY, "copy", 1)
    await put_region(pool, PEER, "peer", "127.0.0.1:1", "follow", 1)
    importer = SnapshotImporter(pool, FAST, COPY, tmp_path)
    lanes = Lanes(pool, pool, FAST, ReplicationMetrics(OFF, Clock()), COPY, importer)

    async def says_why() -> bool:
        problem = await pool.fetchval("select problem from replication.lane where model = 'rollup'")
        return f"copy of region {ORIGINAL}" in (problem or "")

    await lanes.reconcile()
    try:
        await eventually(says_why)
    finally:
        await lanes.close()


async def test_a_copied_region_without_counts_goes_on(pool: Any) -> None:
    epoch = (await confirm_life(pool)).epoch
    await put_own(pool, ORIGINAL, "original", epoch)
    await put_own(pool, COPY, "copy", epoch)
    await check_counts(pool)


async def test_what_a_region_was_before_its_new_id_does_not_make_sums_incomplete_for_ever(pool: Any) -> None:
    await put_own(pool, ORIGINAL, "original", 1)
    await put_own(pool, COPY, "copy", 1)
    assert await read_parts(pool, QUESTION, SIZE) == []
    await put_region(pool, ORIGINAL, "original", "elsewhere:1", "follow", 1)
    (part,) = await read_parts(pool, QUESTION, SIZE)
    assert part.reading is None
