"""The services at work, each under a Postgres role that owns its schema and reads those that its row declares."""

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from libs.egress.settings import EgressSettings
from loadtests.simulators.network import make_network, open_network
from loadtests.youtube.__main__ import read_videos, write_videos
from loadtests.youtube.meter import Meter
from loadtests.youtube.simulator import Simulator, open_simulator
from loadtests.youtube.videos import Catalog
from services.backfill.settings import BackfillSettings, DirectorySettings
from services.registry import SERVICES
from services.replication.settings import RollupSettings
from services.scheduler.settings import SchedulerSettings
from services.worker.settings import FetchSettings, WorkerSettings, YoutubeSettings
from tally.client import Event, TallyError
from tally.query.v1 import query_pb2, query_pb2_grpc
from tally.replication.v1 import entries_pb2 as pb
from tally.replication.v1 import replication_pb2, replication_pb2_grpc
from tests.support.catalog import find_ids, prepare, rule, video
from tests.support.eventually import eventually
from tests.support.letters import bury_spooled, old_id
from tests.support.proof import assert_exact
from tests.support.reach import open_channel
from tests.support.regions import FAST, TIMEOUT_S, Pair, make_entries, open_region, region_database
from tests.support.rights import service_roles
from tests.support.servers import Servers
from tests.support.shards import quick
from tests.support.split import open_split
from tests.support.terminal import run

COUNTING = ("counting", "query", "partitioner")
JOB = """
name = "sync_all"
rationale = "a test"
sla_hours = 1344
population = "youtube_video"
handler = "metadata"
cadence = { period_hours = 672, bin_max = 1, offsets = [0] }
"""


async def test_events_are_counted_read_and_audited(dsn: str, valkey_url: str, tmp_path: Path) -> None:
    expected = {("video", "view"): 3, ("video", "watched"): 1}
    async with (
        service_roles(dsn) as roles,
        open_split(roles.__getitem__, valkey_url, tmp_path, COUNTING, {"counting": quick()}) as stacks,
    ):
        await stacks["partitioner"].client.process_many(
            [*[Event("video")] * 3, Event("video", "watched", value=2.5)]
        )
        reader = stacks["query"].client
        assert (await reader.get_count("video", strong=True)).count == 3
        await assert_exact(dsn, expected)
        assert (await reader.get_stats("video", "watched", "sum")).value == 2.5
        assert (await reader.audit()).discrepancy_events == 0
        assert [log.shard for log in await reader.list_logs()] != []


async def test_dead_letters_are_decided(dsn: str, valkey_url: str, tmp_path: Path) -> None:
    connection = await asyncpg.connect(dsn)
    for video_id in ("replayed", "dropped"):
        keys = await bury_spooled(connection, {(video_id, "view"): 2}, await old_id(connection))
    await connection.close()
    async with (
        service_roles(dsn) as roles,
        open_split(roles.__getitem__, valkey_url, tmp_path, ["counting"], {"counting": quick()}) as stacks,
    ):
        address = stacks["counting"].address
        for command, key in zip(("replay", "drop"), keys, strict=True):
            done = await run("dead-letters", command, str(key), "--yes", address=address)
            assert (done.exit_code, done.err) == (0, "")


async def test_videos_are_synced(dsn: str, valkey_url: str, tmp_path: Path) -> None:
    videos = read_videos()[:120]
    simulator = Simulator(Catalog(videos), Meter())
    members, job = tmp_path / "videos.csv", tmp_path / "job.toml"
    with members.open("w", newline="") as text:
        write_videos(videos, text)
    job.write_text(JOB)
    async with open_simulator(simulator), service_roles(dsn) as roles:
        youtube = YoutubeSettings(api_key=SecretStr(simulator.key), endpoint=simulator.url)
        overrides = {"worker": WorkerSettings(youtube=youtube)}
        names = ("scheduler", "worker")
        async with open_split(roles.__getitem__, valkey_url, tmp_path, names, overrides) as stacks:
            address = stacks["scheduler"].address
            for command in (
                ("videos", "import", members),
                ("jobs", "put", job),
                ("jobs", "run", "sync_all", "--within", "0"),
            ):
                done = await run(*command, address=address)
                assert (done.exit_code, done.err) == (0, "")
            connection = await asyncpg.connect(dsn)

            async def are_synced() -> bool:
                return bool(
                    await connection.fetchval(
                        "select count(*) = $1 from scheduler.youtube_video where title is not null",
                        len(videos),
                    )
                )

            await eventually(are_synced, 30.0)
            await connection.close()


async def test_resources_are_stored_and_found(dsn: str, valkey_url: str, tmp_path: Path) -> None:
    async with (
        service_roles(dsn) as roles,
        open_split(roles.__getitem__, valkey_url, tmp_path, ["catalog"]) as stacks,
    ):
        client = stacks["catalog"].client
        catalog = await prepare(client)
        for number in range(3):
            await catalog.put(f"{number + 1}v", video(number, views=number))
        await catalog.put_rules("1v", [rule()])
        change = await catalog.delete("2v")
        assert await find_ids(client, min_change=change) == ["3v"]


async def test_regions_replicate(servers: Servers, template: str, valkey_url: str, tmp_path: Path) -> None:
    async with (
        region_database(servers.postgres_dsn, template) as first,
        region_database(servers.postgres_dsn, template) as second,
        service_roles(first) as of_first,
        service_roles(second) as of_second,
        open_region(of_first["replication"], valkey_url, tmp_path / "owner") as owner,
        open_region(of_second["replication"], valkey_url, tmp_path / "receiver") as receiver,
    ):
        await owner.follow(receiver)
        await receiver.follow(owner)
        pair = Pair(owner, receiver)
        await pair.until_watermark()
        location = await owner.put_location()
        ways = (pb.STRATEGY_CHANGE, pb.STRATEGY_BATCH, pb.STRATEGY_NOTIFY, pb.STRATEGY_SNAPSHOT)
        for count, strategy in enumerate(ways):
            await owner.index(location, make_entries(10 + count), strategy=strategy)
            await pair.until_equal()
        [verdict] = await receiver.verify(owner)
        assert verdict.here == verdict.there


async def test_counts_of_regions_are_summed(
    servers: Servers, template: str, valkey_url: str, tmp_path: Path
) -> None:
    rollups = RollupSettings(pass_seconds=0.1, most_busy_share=1.0)
    overrides = {"replication": FAST.model_copy(update={"rollups": rollups}), "counting": quick()}
    names = ("counting", "query", "replication", "partitioner")
    async with AsyncExitStack() as stack:
        regions = []
        for name in ("north", "south"):
            dsn = await stack.enter_async_context(region_database(servers.postgres_dsn, template))
            roles = await stack.enter_async_context(service_roles(dsn))
            (tmp_path / name).mkdir()
            opened = open_split(roles.__getitem__, valkey_url, tmp_path / name, names, overrides)
            regions.append(await stack.enter_async_context(opened))
        for own, other in (regions, reversed(regions)):
            channel = await stack.enter_async_context(open_channel(own["replication"].address))
            operators: Any = replication_pb2_grpc.ReplicationServiceStub(channel)
            peer = replication_pb2.PutPeerRequest(address=other["replication"].address)
            await operators.PutPeer(peer, timeout=TIMEOUT_S)
            await own["partitioner"].client.count("video")
        channel = await stack.enter_async_context(open_channel(regions[0]["query"].address))
        query: Any = query_pb2_grpc.QueryServiceStub(channel)

        async def is_summed() -> bool:
            request = query_pb2.GetCountRequest(
                video_id="video", event_type="view", scope=query_pb2.SCOPE_ALL
            )
            found = await query.GetCount(request, timeout=TIMEOUT_S)
            return bool(found.count == 2 and not found.is_incomplete)

        await eventually(is_summed)


async def test_a_backfill_is_fetched_and_counted(dsn: str, valkey_url: str, tmp_path: Path) -> None:
    network = make_network(12)
    dids = tmp_path / "dids.txt"
    dids.write_text("\n".join(network.dids))
    async with open_network(network), service_roles(dsn) as roles:
        overrides = {
            "objects_url": (tmp_path / "objects").as_uri(),
            "counting": quick(),
            "scheduler": SchedulerSettings(poll_seconds=0.2),
            "backfill": BackfillSettings(
                directory=DirectorySettings(url=network.directory_url, per_second=1_000),
                egress=EgressSettings(simulated=True),
                poll_seconds=0.1,
                retry_seconds=0.0,
            ),
            "worker": WorkerSettings(
                fetch=FetchSettings(
                    rate_limit=1_000_000,
                    linger_seconds=0.1,
                    part_seconds=0.5,
                    egress=EgressSettings(simulated=True),
                )
            ),
        }
        names = ("counting", "scheduler", "partitioner", "backfill", "worker")
        async with open_split(roles.__getitem__, valkey_url, tmp_path, names, overrides) as stacks:
            address = stacks["backfill"].address
            fetched = await run(
                "backfill", "coordinator", "--input-file", dids, "--job-id", "job", address=address
            )
            assert f"done, {len(network.fetched)} stored" in fetched.out, fetched
            counted = await run("backfill", "count", "--json", address=address)
            assert json.loads(counted.out)["counted_count"] == network.truth.total()
            await assert_exact(dsn, network.truth)


async def test_a_read_that_is_not_declared_fails(
    dsn: str, valkey_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with service_roles(dsn, {"query": frozenset()}) as roles:
        async with open_split(roles.__getitem__, valkey_url, tmp_path, ["query"]) as stacks:
            with pytest.raises(TallyError, match="internal error"):
                await stacks["query"].client.get_count("video", strong=True)
            assert "permission denied for schema counting" in capfd.readouterr().out
        for name in [each.name for each in SERVICES if each.name != "counting" and not each.reads]:
            connection = await asyncpg.connect(roles[name])
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch("select from counting.log")
            await connection.close()
