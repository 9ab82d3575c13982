"""A short piece of the table: the same rounds, on shards that take over sooner and leases that expire sooner."""

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.fault.table.combinations import combine
from tests.fault.table.deployment import Deployment, open_deployment
from tests.fault.table.faults import FAULTS
from tests.fault.table.load import Pace
from tests.fault.table.round import Row, run_round
from tests.fault.table.scene import Fault, Scene
from tests.support.processes import FAST
from tests.support.proof import open_proof

pytestmark = [pytest.mark.long, pytest.mark.exact, pytest.mark.asyncio(loop_scope="module")]

SOON_STALE = {"TALLY_CATALOG__RIGHTS__MAX_STALENESS_SECONDS": "3"}
SOON_LEASED = {"TALLY_SCHEDULER__LEASE_SECONDS": "3"}
PACE = Pace(callers=2, calls_per_second=6.0, batches_per_second=4.0)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def deployment(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    folder: Path = tmp_path_factory.mktemp("deployment")
    async with open_deployment(folder, environment=FAST | SOON_STALE | SOON_LEASED) as opened:
        yield opened


async def run(deployment: Deployment, number: int, *faults: Fault) -> Row:
    """One round of these faults at the same time."""
    return await run_round(combine(faults), deployment, number, random.Random(number), PACE)


def named(part: str) -> Fault:
    """The fault of the table whose name contains this."""
    [fault] = [fault for fault in FAULTS if part in fault.name]
    return fault


async def test_faults_at_the_same_time_lose_and_double_nothing(deployment: Deployment) -> None:
    parts = ("of a counting process", "of a partitioner", "Valkey killed", "of a commit", "two shards fed")
    row = await run(deployment, 1, *map(named, parts))
    assert row.wrong == ()
    assert row.acknowledged > 0
    assert row.duplicates > 0
    assert row.reads > 0


async def test_a_killed_catalog_and_a_wiped_valkey_show_nothing_hidden(deployment: Deployment) -> None:
    row = await run(deployment, 3, named("of each catalog process"))
    assert row.wrong == ()
    assert (await run(deployment, 4, named("Valkey wiped"))).wrong == ()


async def test_a_run_and_a_backfill_end_right_whatever_is_killed(deployment: Deployment) -> None:
    row = await run(deployment, 5, named("every scheduler and worker in a run"))
    assert row.wrong == ()
    assert (await run(deployment, 6, named("of workers in a backfill"))).wrong == ()


async def test_a_count_that_is_wrong_breaks_the_line(deployment: Deployment) -> None:
    """The last one here: it does what nothing may do."""

    async def count_once_more(scene: Scene) -> None:
        scene.strike()
        await scene.pause(1, 2)
        async with open_proof(deployment.dsn) as connection:
            await connection.execute(
                "insert into counting.rollup_row (generation, video_id, event_type, minute, count) "
                "values (1, 'odd', 'view', 0, 1)"
            )

    row = await run(deployment, 2, Fault("a flush done twice", count_once_more, frozenset()))
    assert any("counted" in sentence for sentence in row.wrong)
    assert any("strong read" in sentence or "one snapshot" in sentence for sentence in row.wrong)
