"""A real Prometheus scrapes a real cluster: every panel has data, and alerts fire in a fault and not before.

The times of the rules are a sixtieth of the real ones. Faults that a test cannot make in this time are in
test_alert_rules.
"""

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from libs.telemetry.targets import path_in
from services.devcluster.cluster import Cluster, open_cluster
from services.monitoring.dashboards import make_dashboards
from services.monitoring.rules import make_rules
from tally.client import Client, Event, TallyError
from tests.e2e.test_sync import open_api, start_run
from tests.support.eventually import eventually
from tests.support.processes import FAST
from tests.support.prometheus import Prometheus, open_prometheus

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

SPEED = 60
QUIET_SECONDS = 15
RUN_EVERY = 40
"""so many rounds of calls are between two runs of the job"""
ONE_OF_EACH = {"counting": 2, "partitioner": 1, "query": 1, "catalog": 1, "scheduler": 1, "worker": 1}


def expressions() -> dict[str, str]:
    """The query of every target of every panel, by a name of it."""
    return {
        f"{name}: {panel['title']} {target['refId']}": target["expr"]
        for name, text in make_dashboards().items()
        for panel in json.loads(text)["panels"]
        for target in panel["targets"]
    }


async def use(cluster: Cluster) -> None:
    """Call every service, until cancelled. Errors are what some alerts are for."""
    places = {service: cluster.topology.of(service)[0].address for service in ("catalog", "replication")}
    async with (
        Client(cluster.address, timeout=2.0) as client,
        Client(places["catalog"], timeout=2.0) as catalog,
        Client(places["replication"], timeout=2.0) as replication,
    ):
        for number in itertools.count():
            calls: list[Callable[[], Awaitable[object]]] = [
                lambda: client.process_many([Event("video", "view")]),
                lambda: client.get_count("video"),
                lambda: client.get_count("video", strong=True),
                lambda: client.get_count("video", start=datetime.now(UTC) - timedelta(hours=1)),
                catalog.catalog.status,
                replication.replication.list_regions,
                lambda: anext(client.backfill.list_jobs(), None),
            ]
            if number % RUN_EVERY == 0:
                calls.append(lambda: client.scheduler.run_job("sync_all"))
            for call in calls:
                try:
                    await call()
                except TallyError:
                    await asyncio.sleep(0.1)
            await asyncio.sleep(0.02)


@asynccontextmanager
async def open_watched(folder: Path, stack: AsyncExitStack) -> AsyncIterator[tuple[Cluster, Prometheus]]:
    api, videos = await stack.enter_async_context(open_api())
    worker = {"TALLY_WORKER__YOUTUBE__API_KEY": api.key, "TALLY_WORKER__YOUTUBE__ENDPOINT": api.url}
    cluster = await stack.enter_async_context(
        open_cluster(folder, ONE_OF_EACH, environment=FAST, environment_of={"worker-0": worker})
    )
    prometheus = await stack.enter_async_context(open_prometheus(folder, path_in(folder), make_rules(SPEED)))
    await eventually(prometheus.is_ready, 30)
    await start_run(cluster.address, videos, folder)
    using = asyncio.create_task(use(cluster))
    stack.callback(using.cancel)
    yield cluster, prometheus


async def test_panels_have_data_alerts_are_quiet_and_fire_when_a_shard_and_postgres_are_gone(
    tmp_path: Path,
) -> None:
    async with AsyncExitStack() as stack:
        cluster, prometheus = await stack.enter_async_context(open_watched(tmp_path, stack))
        await assert_panels_have_data(prometheus)
        begun = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() < begun + QUIET_SECONDS:
            assert await prometheus.firing() == set()
            await asyncio.sleep(1)

        async def fire(*names: str) -> bool:
            return set(names) <= await prometheus.firing()

        await cluster.stop("counting-1")
        await eventually(lambda: fire("TallyProcessDown", "TallyShardUnreachable"), 40)
        await cluster.start("counting-1")
        await eventually(lambda: is_quiet(prometheus), 60)
        await cluster.stop("postgres")
        await eventually(lambda: fire("TallySpooling", "TallyErrorBudgetBurns"), 60)
        await cluster.start("postgres")


async def is_quiet(prometheus: Prometheus) -> bool:
    return await prometheus.firing() == set()


async def assert_panels_have_data(prometheus: Prometheus) -> None:
    """Every query returns a number; calls that have not come yet may come within the time."""
    missing = {name: re.sub(r"\$__rate_interval", "10s", each) for name, each in expressions().items()}

    async def are_there() -> bool:
        for name, expression in list(missing.items()):
            series = await prometheus.query(expression)
            if any(each["value"][1] != "NaN" for each in series):
                del missing[name]
        return not missing

    try:
        await eventually(are_there, 45)
    except AssertionError:
        pytest.fail(f"no data: {json.dumps(missing, indent=1)}")
