"""Jobs that are paused and resumed."""

import uuid
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio

from services.scheduler.job_rows import JobState, read_job, set_state
from services.scheduler.outcomes import Outcome
from tally.contract.errors import NotFound
from tests.integration.services.scheduler.scheduling import DAY, JOB, MONDAY, Scene, open_scene


@pytest_asyncio.fixture
async def scene(dsn: str) -> AsyncIterator[Scene]:
    """One scheduler that leases overdue slots at twice the planned rate."""
    async with open_scene(dsn, catchup_rate=2.0) as opened:
        yield opened


async def pause(scene: Scene) -> None:
    await set_state(scene.pool, JOB.name, JobState.PAUSED, "upgrade", scene.clock.at)


async def resume(scene: Scene) -> None:
    await set_state(scene.pool, JOB.name, JobState.ACTIVE, "", scene.clock.at)


async def test_a_pause_holds_back_every_slot_and_a_batch_under_way_is_recorded(scene: Scene) -> None:
    await scene.put_videos(40)
    run_id = await scene.plan()
    await scene.one.planner.plan_repeat(JOB.name, uuid.uuid4(), timedelta())
    under_way = await scene.must_lease("a")
    await pause(scene)
    answer = await scene.report(under_way, outcome=Outcome.RETRY)
    assert (answer.recorded, answer.permit) == (5, None)
    assert await scene.lease("b") is None
    scene.clock.at += 2 * JOB.length
    bell = scene.one.leases._due.count
    await scene.one.ticker.tick(scene.pool)
    assert await scene.lease("b") is None
    assert scene.one.leases._due.count == bell
    assert len(await scene.attempts(under_way.slot.run_id)) == 5
    assert {slot["lane"] for slot in await scene.slots(run_id)} == {1}  # retries wait, too
    await resume(scene)
    await scene.one.ticker.tick(scene.pool)
    assert await scene.lease("b") is not None


async def test_a_resume_is_a_catch_up(scene: Scene) -> None:
    """Runs that were missed are planned under their own times or skipped, and dispatched at the rate of late runs."""
    await scene.put_videos(100)
    job_id = await scene.put_job()
    await pause(scene)
    scene.clock.at = MONDAY + 5 * DAY + timedelta(hours=10)
    await scene.one.ticker.tick(scene.pool)
    assert not await scene.one.planner.plan(job_id)
    assert await scene.pool.fetchval("select count(*) from scheduler.sync_run") == 0
    await resume(scene)
    for _ in range(4):
        await scene.one.ticker.tick(scene.pool)
    rows = await scene.pool.fetch("select * from scheduler.sync_run order by logical_at")
    assert [(row["state"], row["logical_at"], row["skipped"]) for row in rows] == [
        ("skipped", MONDAY, 4),
        ("planned", MONDAY + 4 * DAY, 0),
        ("planned", MONDAY + 5 * DAY, 0),
    ]
    leased = await scene.must_lease()
    assert leased.slot.logical_at == MONDAY + 4 * DAY
    assert await scene.lease() is None


async def test_the_reason_of_a_pause_is_kept_until_the_resume(scene: Scene) -> None:
    await scene.put_job()
    await pause(scene)
    await scene.put_job(batch=2)  # a change of the job is no resume
    row = await read_job(scene.pool, JOB.name)
    assert (row["state"], row["reason"]) == ("paused", "upgrade")
    await resume(scene)
    row = await read_job(scene.pool, JOB.name)
    assert (row["state"], row["reason"]) == ("active", "")
    with pytest.raises(NotFound, match="there is no job 'nowhere'"):
        await set_state(scene.pool, "nowhere", JobState.PAUSED, "x", scene.clock.at)
