"""Counts of other regions: shown whole or not at all, and the sum over regions is that of what each acknowledged."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
import pytest_asyncio

from services.counting.settings import CountingSettings
from services.partitioner.settings import PartitionerSettings
from services.replication import rollup_sender, rollup_store
from services.replication.rollup_file import PassFile
from services.replication.rollups import unpack_rollups
from services.replication.settings import RollupSettings
from tally.client import Client, Event
from tally.common.v1 import common_pb2
from tally.query.v1 import query_pb2, query_pb2_grpc
from tally.replication.v1 import replication_pb2, replication_pb2_grpc
from tally.replication.v1.peers_pb2 import StateBatch
from tests.support.eventually import eventually
from tests.support.regions import FAST, TIMEOUT_S, region_database
from tests.support.servers import Servers
from tests.support.stack import open_stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

QUICK = FAST.model_copy(
    update={
        "rollups": RollupSettings(pass_seconds=0.1, most_busy_share=1.0),
        "sender": FAST.sender.model_copy(update={"batch_size": 10}),
    }
)


NAMES = ("counting", "partitioner", "query", "replication")


@dataclass(slots=True)
class CountingRegion:
    """A region that counts."""

    device: str
    address: str
    client: Client
    query: Any
    operators: Any
    database: Any

    async def count(self, video: str, kind: str = "view", **options: Any) -> Any:
        request = query_pb2.GetCountRequest(
            video_id=video, event_type=kind, scope=query_pb2.SCOPE_ALL, **options
        )
        return await self.query.GetCount(request, timeout=TIMEOUT_S)

    async def sees(self, video: str, count: int, **options: Any) -> None:
        async def does() -> bool:
            found = await self.count(video, **options)
            assert found.count <= count
            assert found.count == sum(part.count for part in found.regions)
            return bool(found.count == count and not found.is_incomplete)

        await eventually(does)


@asynccontextmanager
async def open_counting(dsn: str, valkey_url: str, folder: Path, name: str) -> AsyncIterator[CountingRegion]:
    folder.mkdir(parents=True, exist_ok=True)
    overrides = {
        "replication": QUICK.model_copy(update={"name": name}),
        "partitioner": PartitionerSettings(shards=("127.0.0.1:1",)),  # the shard is in this process
        "counting": CountingSettings.model_validate({"flush": {"interval_seconds": 0.1}}),
    }
    async with (
        open_stack(dsn, valkey_url, folder, names=NAMES, overrides=overrides) as stack,
        grpc.aio.insecure_channel(stack.address) as channel,
    ):
        database = await asyncpg.connect(dsn)
        try:
            device = str(await database.fetchval("select cluster_id from public.cluster"))
            query: Any = query_pb2_grpc.QueryServiceStub(channel)
            operators: Any = replication_pb2_grpc.ReplicationServiceStub(channel)
            yield CountingRegion(device, stack.address, stack.client, query, operators, database)
        finally:
            await database.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def regions(
    servers: Servers, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[CountingRegion, CountingRegion]]:
    async with AsyncExitStack() as stack:
        opened = []
        for name in ("north", "south"):
            dsn = await stack.enter_async_context(region_database(servers.postgres_dsn, template))
            folder = tmp_path_factory.mktemp(name)
            opened.append(
                await stack.enter_async_context(open_counting(dsn, servers.valkey_url, folder, name))
            )
        north, south = opened
        for one, other in ((north, south), (south, north)):
            await one.operators.PutPeer(
                replication_pb2.PutPeerRequest(address=other.address), timeout=TIMEOUT_S
            )
        yield north, south


def video() -> str:
    return f"video {uuid.uuid4()}"


async def test_the_sum_over_all_regions_is_what_each_of_them_acknowledged(
    regions: tuple[CountingRegion, CountingRegion],
) -> None:
    """003-65, T003-40: with each region's part, and how far it reaches."""
    north, south = regions
    name = video()
    acknowledged = 0
    for region, times in ((north, 3), (south, 4), (north, 5)):
        for _ in range(times):
            receipt = await region.client.count(name)
            acknowledged += receipt.accepted_count
        await north.sees(name, acknowledged)
        await south.sees(name, acknowledged)
    found = await south.count(name)
    assert [(part.name, part.is_home, part.count) for part in found.regions] == [
        ("south", True, 4),
        ("north", False, 8),
    ]
    assert {part.device_id for part in found.regions} == {north.device, south.device}
    assert all(part.is_reachable for part in found.regions)
    assert found.as_of.ToMicroseconds() == min(part.as_of.ToMicroseconds() for part in found.regions)
    home = query_pb2.GetCountRequest(video_id=name, event_type="view")
    assert (await south.query.GetCount(home, timeout=TIMEOUT_S)).count == 4


async def test_statistics_over_all_regions_are_those_of_all_their_events(
    regions: tuple[CountingRegion, CountingRegion],
) -> None:
    name = video()
    for region, values in zip(regions, ((1.0, 2.0), (6.0, 7.0, 9.0)), strict=True):
        for value in values:
            await region.client.process(Event(name, "watch", value=value))
    await regions[0].sees(name, 5, kind="watch")
    wanted = {"SUM": 25.0, "AVERAGE": 5.0, "MIN": 1.0, "MAX": 9.0, "STDDEV": 3.0331501776}
    for function, expected in wanted.items():
        request = query_pb2.GetStatsRequest(
            video_id=name,
            event_type="watch",
            function=f"FUNCTION_{function}",
            scope=query_pb2.SCOPE_ALL,
        )
        found = await regions[0].query.GetStats(request, timeout=TIMEOUT_S)
        assert found.value == pytest.approx(expected)
        assert found.count == 5
        assert [part.count for part in found.regions] == [2, 3]


async def test_strong_is_strong_for_the_home_region_and_says_so(
    regions: tuple[CountingRegion, CountingRegion],
) -> None:
    north, _ = regions
    name = video()
    await north.client.count(name)
    found = await north.count(name, consistency=common_pb2.CONSISTENCY_STRONG)
    assert found.count == 1
    assert [part.consistency for part in found.regions] == [
        common_pb2.CONSISTENCY_STRONG,
        common_pb2.CONSISTENCY_CACHED,
    ]


async def test_a_part_that_is_older_than_the_caller_accepts_is_refused_by_the_name_of_its_region(
    regions: tuple[CountingRegion, CountingRegion],
) -> None:
    north, _ = regions
    await north.sees(video(), 0)
    request: dict[str, Any] = {"max_staleness": {"seconds": 20}}
    assert (await north.count(video(), **request)).count == 0
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await north.count(video(), max_staleness={"nanos": 1000})
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "max_staleness" in str(refused.value.details())
    await north.database.execute(
        "update replication.lane set holder = null, stream = stream + 1, data_losses = 99 where model = 'rollup'"
    )
    await north.database.execute(
        "update replication.watermark set as_of = as_of - interval '1 hour' where model = 'rollup'"
    )
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await north.count(video(), **request)
    assert "region south" in str(refused.value.details())
    await north.database.execute("update replication.lane set data_losses = 0")

    async def is_fresh_again() -> bool:
        try:
            await north.count(video(), **request)
        except grpc.aio.AioRpcError:
            return False
        return True

    await eventually(is_fresh_again)


async def test_a_region_without_counts_makes_the_sum_incomplete_and_says_so(
    regions: tuple[CountingRegion, CountingRegion],
) -> None:
    """T003-40: a smaller number is never returned in silence."""
    north, _ = regions
    await north.database.execute(
        "insert into replication.region (device, name, address) values ($1, 'nowhere', '127.0.0.1:1')",
        uuid.uuid4(),
    )
    try:
        found = await north.count(video())
        assert found.is_incomplete
        (nowhere,) = [part for part in found.regions if part.name == "nowhere"]
        assert not nowhere.HasField("as_of")
        assert not nowhere.is_reachable
        with pytest.raises(grpc.aio.AioRpcError, match="nowhere"):
            await north.count(video(), max_staleness={"seconds": 3600})
    finally:
        await north.database.execute("delete from replication.region where name = 'nowhere'")


async def test_readers_see_a_pass_whole_or_not_at_all_and_one_that_is_broken_off_begins_anew(
    regions: tuple[CountingRegion, CountingRegion], monkeypatch: pytest.MonkeyPatch
) -> None:
    """T003-38: 30 videos in one request are in one flush, and so in one pass of three batches."""
    north, south = regions
    names = [video() for _ in range(30)]
    sent = 0

    class Breaking(PassFile):
        async def batches(self) -> AsyncGenerator[StateBatch]:
            nonlocal sent
            async for batch in super().batches():
                if any(row.video_id in names for row in unpack_rollups(batch)):
                    sent += 1
                    if sent in (2, 4):
                        raise OSError("the network is away")
                yield batch

    monkeypatch.setattr(rollup_sender, "PassFile", Breaking)
    await north.client.process_many([Event(name, "view") for name in names])

    async def is_there() -> bool:
        seen = await south.database.fetchval(
            "select count(*) from replication.received_rollup join replication.watermark using (device, copy) "
            "where model = 'rollup' and video_id = any($1)",
            names,
        )
        assert seen in (0, len(names))
        return bool(seen)

    await eventually(is_there)
    assert sent > 4
    for name in names[:3]:
        await south.sees(name, 1)


async def test_the_rows_of_a_pass_that_is_not_complete_are_seen_by_nobody(
    regions: tuple[CountingRegion, CountingRegion], monkeypatch: pytest.MonkeyPatch
) -> None:
    """T003-38: its last frame is held back after all others were committed."""
    north, south = regions
    names = [video() for _ in range(30)]
    is_complete = asyncio.Event()
    show_pass = rollup_store.show_pass

    async def count_in(table: str, database: Any = south.database) -> int:
        return int(await database.fetchval(f"select count(*) from {table} where video_id = any($1)", names))

    async def show_later(connection: Any, *arguments: Any) -> None:
        if await count_in("replication.rollup_pass", connection):
            await is_complete.wait()
        await show_pass(connection, *arguments)

    async def is_staged() -> bool:
        assert await count_in("replication.received_rollup") == 0
        return await count_in("replication.rollup_pass") == len(names)

    monkeypatch.setattr(rollup_store, "show_pass", show_later)
    try:
        await north.client.process_many([Event(name) for name in names])
        await eventually(is_staged)
    finally:
        is_complete.set()
    for name in names[:3]:
        await south.sees(name, 1)


async def test_a_region_that_was_put_back_is_loaded_anew_and_shown_at_once(
    regions: tuple[CountingRegion, CountingRegion],
) -> None:
    """T003-28: the last word is not known any more, and the counts of that life go."""
    north, south = regions
    name, never = video(), video()
    await north.client.count(name)
    await south.sees(name, 1)
    copy = "select copy from replication.watermark where model = 'rollup'"
    before = await south.database.fetchval(copy)
    await south.database.execute(
        """insert into replication.received_rollup
        select device, copy, $1, event_type, minute, generation, 7, 0, 0, null, null, 0
        from replication.received_rollup where video_id = $2 and copy = $3""",
        never,
        name,
        before,
    )
    await south.sees(never, 7)
    await north.database.execute("delete from replication.closing_word where model = 'rollup'")
    await south.database.execute("update replication.lane set stream = stream + 1 where model = 'rollup'")

    async def is_gone() -> bool:
        assert (await south.count(name)).count == 1
        return bool((await south.count(never)).count == 0)

    await eventually(is_gone)
    assert await south.database.fetchval(copy) > before


async def test_no_writer_of_rollups_uses_savepoints_whose_ids_no_snapshot_lists(
    regions: tuple[CountingRegion, CountingRegion],
) -> None:
    """T003-48: each row that a flush writes has the id of the whole transaction."""
    north, south = regions
    await north.database.execute(
        """
        create table strange (run_id bigint);
        create function note_strange() returns trigger language plpgsql as $$
        begin
            insert into strange select run_id from counting.rollup_block
            where (generation, run_id, first, number) = (new.generation, new.run_id, new.first, new.number)
                and xmin <> pg_current_xact_id()::xid;
            return null;
        end $$;
        create trigger note_strange after insert or update on counting.rollup_block
            for each row execute function note_strange();"""
    )
    name = video()
    for times in (1, 2):
        await north.client.count(name)
        await south.sees(name, times)
    assert await north.database.fetchval("select count(*) from strange") == 0
    transaction = north.database.transaction()
    async with transaction, north.database.transaction():  # the trigger finds a writer that does
        await north.database.execute("update counting.rollup_block set number = number")
    assert await north.database.fetchval("select count(*) from strange") > 0
    await north.database.execute("drop trigger note_strange on counting.rollup_block")
