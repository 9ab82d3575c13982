"""A stream that breaks anywhere goes on where it was: nothing that was acknowledged is sent again."""

import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from services.replication import snapshot
from services.replication.rows import EntryRow
from services.replication.settings import (
    ReceiverSettings,
    ReplicationSettings,
    SenderSettings,
    SnapshotSettings,
    StrategySettings,
    TombstoneSettings,
)
from services.replication.snapshot import SnapshotExporter
from services.replication.wire import Packed, compress_batch
from tests.support.lanes import Clock, LaneUnderTest
from tests.support.regions import region_database
from tests.support.servers import Servers

BATCH, WINDOW = 4, 2
SETTINGS = ReplicationSettings(
    sender=SenderSettings(poll_seconds=0.01, gather_seconds=0.0, idle_pass_seconds=600, batch_size=BATCH),
    receiver=ReceiverSettings(retry_seconds=0.01, lease_seconds=5.0, window_frames=WINDOW),
    strategy=StrategySettings(batch_from_rows=30, notify_from_rows=60),
    snapshot=SnapshotSettings(chunk_bytes=4096),
    tombstones=TombstoneSettings(retention_seconds=7200, full_sync_after_seconds=3600),
)
LOCATION = uuid.UUID(int=7 << 64)


@pytest_asyncio.fixture
async def lane(servers: Servers, template: str, tmp_path: Path) -> AsyncIterator[LaneUnderTest]:
    async with (
        region_database(servers.postgres_dsn, template) as owner,
        region_database(servers.postgres_dsn, template) as receiver,
        LaneUnderTest(owner, receiver, tmp_path, SETTINGS) as opened,
    ):
        yield opened


def make_rows(numbers: Sequence[int], name: str = "a") -> list[EntryRow]:
    return [
        EntryRow(
            uuid.UUID(int=LOCATION.int + 1 + n), LOCATION, None, "file", f"{name}{n}", n, 0, b"", "x" * 50, 0
        )
        for n in numbers
    ]


async def commit(lane: LaneUnderTest, rows: Sequence[EntryRow]) -> None:
    async def pages() -> AsyncIterator[Sequence[EntryRow]]:
        yield rows

    await lane.transactions.put_location(LOCATION, "folder", "made")
    await lane.transactions.commit_bulk_entries(LOCATION, pages(), complete=False)


@pytest.mark.parametrize("rows", [20, 50, 90], ids=["change", "batch", "notify"])
@pytest.mark.parametrize("frames", [7, pytest.param(3, marks=pytest.mark.long)])
async def test_rows_that_were_acknowledged_are_never_sent_again(
    lane: LaneUnderTest, rows: int, frames: int
) -> None:
    """003-07, 003-35, T003-08, T003-35: the rows that are sent are counted."""
    await lane.settle()
    await commit(lane, make_rows(range(rows)))
    streams = 0
    there, here = await lane.rows()
    while there != here:
        await lane.stream(frames)
        streams += 1
        there, here = await lane.rows()
        assert streams < rows
    await lane.settle()
    # 2 more: the row of the location, written once when it is put and once by the commit.
    assert rows <= lane.meter.rows <= rows + 2 + streams * WINDOW * BATCH
    assert lane.meter.again == 0
    assert streams > 1


async def test_chunks_of_a_snapshot_that_are_here_are_not_fetched_again_whatever_is_written_meanwhile(
    lane: LaneUnderTest,
) -> None:
    await commit(lane, make_rows(range(300)))
    streams = 0
    while not (await lane.rows())[1]:
        await lane.stream(chunks=2)
        await commit(lane, make_rows([streams], "meanwhile"))
        streams += 1
        assert streams < 20
    exports = await lane.owner.fetch("select number from replication.snapshot_chunk")
    assert streams > 2
    assert lane.meter.chunks == len(exports)
    await lane.settle()


async def test_an_export_is_written_chunk_by_chunk_and_never_in_memory_whole(
    lane: LaneUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = most = chunks = 0

    class Counted(bytes):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def pack(*arguments: Any) -> Packed:
        nonlocal alive, most, chunks
        packed = compress_batch(*arguments)
        alive, chunks = alive + 1, chunks + 1
        most = max(most, alive)
        return replace(packed, data=Counted(packed.data))

    await commit(lane, make_rows(range(300)))
    monkeypatch.setattr(snapshot, "compress_batch", pack)
    await lane.settle()
    assert chunks > 5
    assert most <= 3


async def test_an_export_that_is_read_is_kept_and_others_are_removed(lane: LaneUnderTest) -> None:
    await commit(lane, make_rows(range(300)))
    await lane.stream(chunks=2)
    exporter = SnapshotExporter(lane.owner, SETTINGS, Clock(), lane.folder)
    export = await lane.owner.fetchval("select id from replication.snapshot_export")
    long_ago = (
        "update replication.snapshot_export set made_at = now() - interval '1 day', read_at = {read_at}"
    )
    await lane.owner.execute(long_ago.format(read_at="now() - interval '2 hours'"))
    assert await exporter.read_chunk(export, 2) is not None
    await exporter.remove_old()
    assert await exporter.read_chunk(export, 3) is not None
    await lane.owner.execute(long_ago.format(read_at="now() - interval '2 hours'"))
    await exporter.remove_old()
    assert await lane.owner.fetchval("select count(*) from replication.snapshot_chunk") == 0


async def test_what_was_fetched_of_an_export_that_is_no_more_does_not_stay_on_the_disk(
    lane: LaneUnderTest,
) -> None:
    await commit(lane, make_rows(range(300)))
    files = []
    for _ in range(2):
        await lane.stream(chunks=2)
        files.append(list(lane.folder.glob("import-*")))
        await lane.owner.execute("delete from replication.snapshot_export")
    assert [len(each) for each in files] == [1, 1]
    assert files[0] != files[1]


async def test_one_export_serves_every_peer_while_it_is_fresh(
    lane: LaneUnderTest, servers: Servers, template: str, tmp_path: Path
) -> None:
    """T003-27."""
    await commit(lane, make_rows(range(10)))
    await lane.settle()
    await commit(lane, make_rows(range(5), "later"))
    async with region_database(servers.postgres_dsn, template) as third:
        other = LaneUnderTest(lane.owner_dsn, third, tmp_path / "third", SETTINGS)
        async with other:
            await other.settle()
    assert await lane.owner.fetchval("select count(*) from replication.snapshot_export") == 1


async def test_an_export_below_the_floor_is_made_anew(
    lane: LaneUnderTest, servers: Servers, template: str, tmp_path: Path
) -> None:
    """T003-06: a peer that loaded it would keep rows whose tombstones were pruned."""
    await commit(lane, make_rows(range(10)))
    await lane.settle()
    await lane.transactions.delete_entries(LOCATION, [make_rows([3])[0].uuid])
    await lane.settle()
    assert await lane.prune() == 1
    async with region_database(servers.postgres_dsn, template) as third:
        other = LaneUnderTest(lane.owner_dsn, third, tmp_path / "third", SETTINGS)
        async with other:
            await other.settle()
    assert await lane.owner.fetchval("select count(*) from replication.snapshot_export") == 2


async def test_a_peer_that_was_away_for_too_long_loads_one_snapshot_and_goes_on_by_passes(
    lane: LaneUnderTest,
) -> None:
    await commit(lane, make_rows(range(10)))
    await lane.settle()
    await lane.owner.execute("update replication.closing_word set made_at = now() - interval '2 hours'")
    await lane.owner.execute("update replication.snapshot_export set made_at = now() - interval '10 minutes'")
    await commit(lane, make_rows(range(3), "later"))
    await lane.settle()
    await commit(lane, make_rows(range(3), "latest"))
    await lane.settle()
    assert await lane.owner.fetchval("select count(*) from replication.snapshot_export") == 2


async def test_a_receiver_that_was_put_back_loads_no_snapshot_older_than_its_watermark(
    lane: LaneUnderTest,
) -> None:
    """An export that is kept may be older than the backup."""
    await commit(lane, make_rows(range(3)))
    await lane.settle()  # loads a snapshot, whose export is kept
    await commit(lane, make_rows([4]))
    await lane.settle()
    before, word = await lane.receiver.fetchrow("select snapshot::text, word from replication.watermark")
    await lane.receiver.execute("update replication.watermark set word = $1", word + 1)
    while await lane.receiver.fetchval("select word = $1 from replication.watermark", word + 1):
        await lane.stream()
    after = await lane.receiver.fetchval("select snapshot::text from replication.watermark")
    covers = "select replication.covers($1::text::pg_snapshot, $2::text::pg_snapshot)"
    assert await lane.receiver.fetchval(covers, after, before), (before, after)
