"""A population kept in sync with another company's api, end to end: commands, schedulers, workers, and the api."""

import asyncio
import json
import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from pydantic import SecretStr

from loadtests.youtube.__main__ import read_videos, write_videos
from loadtests.youtube.meter import Meter
from loadtests.youtube.simulator import Simulator, open_simulator
from loadtests.youtube.videos import Catalog, Video
from services.cli.terminal.failure import OK
from services.worker.settings import WorkerSettings, YoutubeSettings
from tests.support.eventually import eventually
from tests.support.otlp import open_collector
from tests.support.processes import ServiceProcess, run_service
from tests.support.stack import open_stack
from tests.support.terminal import run

pytestmark = pytest.mark.exact

QUOTA_FILE = Path(__file__).parents[2] / "services" / "scheduler" / "jobs" / "youtube.toml"
# Its cadence plans nothing while a test lives: the test asks for its run.
JOB = """
name = "sync_all"
rationale = "a test"
sla_hours = 1344
population = "youtube_video"
handler = "metadata"
cadence = { period_hours = 672, bin_max = 1, offsets = [0] }
quotas = { youtube_units = 1 }
"""
BATCH = 50
LEASE_SECONDS = 3


@asynccontextmanager
async def open_api(delay_seconds: float = 0.0) -> AsyncIterator[tuple[Simulator, list[Video]]]:
    """The api with the 2,334 videos of the data set."""
    videos = read_videos()
    simulator = Simulator(Catalog(videos), Meter(), delay_seconds=delay_seconds)
    async with open_simulator(simulator):
        yield simulator, videos


async def start_run(address: str, videos: list[Video], folder: Path) -> int:
    """Import the videos and ask for a run of all of them, by the commands; the run's id."""
    members, job = folder / "videos.csv", folder / "job.toml"
    with members.open("w", newline="") as text:
        write_videos(videos, text)
    job.write_text(JOB)
    imported = await run("videos", "import", members, "--json", address=address)
    assert (imported.exit_code, imported.err) == (OK, "")
    assert json.loads(imported.out)["inserted_count"] == len(videos) == 2334
    for command in (("quota", "put", QUOTA_FILE), ("jobs", "put", job)):
        stored = await run(*command, address=address)
        assert (stored.exit_code, stored.err) == (OK, "")
    planned = await run("jobs", "run", "sync_all", "--within", "0", "--json", address=address)
    assert (planned.exit_code, planned.err) == (OK, "")
    run_id: int = json.loads(planned.out)["id"]
    return run_id


async def is_done(database: asyncpg.Connection, run_id: int) -> bool:
    state = await database.fetchval("select state from scheduler.sync_run where run_id = $1", run_id)
    return bool(state == "done")


async def assert_synced(database: asyncpg.Connection, run_id: int, videos: list[Video]) -> int:
    """Each video has its outcome once, and what the api reports of it; how many calls that takes."""
    attempts = await database.fetch(
        "select item_id, outcome from scheduler.sync_attempt where run_id = $1", run_id
    )
    assert sorted(row["item_id"] for row in attempts) == sorted(video.id for video in videos)
    assert {row["outcome"] for row in attempts} == {1}
    rows = await database.fetch(
        "select youtube_id, title, view_count, like_count, comment_count from scheduler.youtube_video"
    )
    assert {tuple(row) for row in rows} == {
        (video.id, video.title, video.view_count, video.like_count, video.comment_count) for video in videos
    }
    slots = await database.fetch("select members from scheduler.sync_slot where run_id = $1", run_id)
    return sum(math.ceil(slot["members"] / BATCH) for slot in slots)


async def test_every_video_is_synced_once_and_each_call_is_of_fifty(
    dsn: str, valkey_url: str, tmp_path: Path
) -> None:
    async with open_api() as (api, videos), AsyncExitStack() as stack:
        youtube = YoutubeSettings(api_key=SecretStr(api.key), endpoint=api.url)
        overrides = {"worker": WorkerSettings(youtube=youtube)}
        opened = await stack.enter_async_context(open_stack(dsn, valkey_url, tmp_path, overrides=overrides))
        database = await asyncpg.connect(dsn)
        stack.push_async_callback(database.close)
        run_id = await start_run(opened.address, videos, tmp_path)
        await eventually(lambda: is_done(database, run_id), 30)
        units = await assert_synced(database, run_id, videos)
        assert units == 47
        assert (api.calls, sum(api.meter.used.values()), api.meter.refused_count) == (units, units, 0)


async def test_killed_workers_and_schedulers_cost_a_call_each_and_no_outcome(
    dsn: str, valkey_url: str, tmp_path: Path
) -> None:
    async with open_api(delay_seconds=0.1) as (api, videos), AsyncExitStack() as stack:

        async def start(name: str, **env: str) -> ServiceProcess:
            return await stack.enter_async_context(run_service(name, dsn, valkey_url, tmp_path, env=env))

        lease = {"TALLY_SCHEDULER__LEASE_SECONDS": str(LEASE_SECONDS)}
        schedulers = await asyncio.gather(*(start("scheduler", **lease) for _ in range(2)))
        working = {
            "TALLY_WORKER__SCHEDULER": json.dumps([each.address for each in schedulers]),
            "TALLY_WORKER__SLOTS_AT_ONCE": "1",  # a worker has one batch in progress
            "TALLY_WORKER__YOUTUBE__API_KEY": api.key,
            "TALLY_WORKER__YOUTUBE__ENDPOINT": api.url,
        }
        first, _ = await asyncio.gather(*(start("worker", **working) for _ in range(2)))
        database = await asyncpg.connect(dsn)
        stack.push_async_callback(database.close)
        run_id = await start_run(schedulers[1].address, videos, tmp_path)

        async def are_both_calling() -> bool:
            return api.in_flight == 2

        await eventually(are_both_calling, 20)
        first.kill()
        third = await start("worker", **working)
        await eventually(are_both_calling, 20)
        schedulers[0].kill()
        await eventually(are_both_calling, 20)
        third.kill()
        assert not await is_done(database, run_id)
        await eventually(lambda: is_done(database, run_id), 30)
        units = await assert_synced(database, run_id, videos)
        assert units <= api.calls <= units + 2
        assert (sum(api.meter.used.values()), api.meter.refused_count) == (api.calls, 0)


async def test_a_slot_is_one_trace_through_scheduler_worker_and_api(
    dsn: str, valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
    with open_collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        async with open_api() as (api, videos):
            youtube = YoutubeSettings(api_key=SecretStr(api.key), endpoint=api.url)
            overrides = {"worker": WorkerSettings(youtube=youtube)}
            async with open_stack(dsn, valkey_url, tmp_path, overrides=overrides) as opened:
                run_id = await start_run(opened.address, videos, tmp_path)
                database = await asyncpg.connect(dsn)
                await eventually(lambda: is_done(database, run_id), 30)
                await database.close()
    spans = collector.spans
    get = next(span for span in spans if span.name == "GET")
    names = {(span.name.rpartition("/")[2], span.kind) for span in spans if span.trace_id == get.trace_id}
    server, client, internal = Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_INTERNAL
    assert names == {
        ("slot", internal),
        ("LeaseSlot", client),
        ("LeaseSlot", server),
        ("batch", internal),
        ("GET", client),
        ("ReportItems", client),
        ("ReportItems", server),
    }
