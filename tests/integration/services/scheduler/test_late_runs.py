"""Runs that are late: how fast they are caught up with, when they are given up, and what overlaps."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from services.scheduler.definition import Overlap
from services.scheduler.lanes import SCHEDULED
from services.scheduler.outcomes import Outcome
from services.scheduler.runs import cancel_run
from tally.contract.errors import NotFound, RunEnded
from tests.integration.services.scheduler.scheduling import DAY, JOB, Scene, open_scene

MINUTE = timedelta(minutes=1)
RUNS = "select * from scheduler.sync_run order by run_id"


@pytest_asyncio.fixture
async def paced(dsn: str) -> AsyncIterator[Scene]:
    """Two schedulers that lease overdue slots at twice the planned rate."""
    async with open_scene(dsn, schedulers=2, catchup_rate=2.0) as opened:
        yield opened


async def runs(scene: Scene) -> list[Any]:
    return list(await scene.pool.fetch(RUNS))


async def work_for(scene: Scene, length: timedelta, step: timedelta) -> list[dict[int, int]]:
    """Work off what may be leased after each step; how many members of each run there were."""
    counts = []
    for _ in range(length // step):
        seen: dict[int, int] = {}
        while (lease := await scene.lease()) is not None:
            for batch in range(len(lease.batches)):
                await scene.report(lease, batch)
                seen[lease.slot.run_id] = seen.get(lease.slot.run_id, 0) + len(lease.batches[batch])
        counts.append(seen)
        scene.clock.at += step
    return counts


async def test_an_overdue_run_is_dispatched_at_twice_the_planned_rate(paced: Scene) -> None:
    """T000-15: 400 members in 8 h are 50 an hour"""
    ids = await paced.put_videos(400)
    await paced.plan()
    paced.clock.at += timedelta(hours=20)
    counts = [sum(seen.values()) for seen in await work_for(paced, timedelta(hours=5), 6 * MINUTE)]
    assert set(counts[:40]) == {10}
    assert sum(counts) == len(ids)
    assert sum(counts[40:]) == 0


async def test_a_run_that_is_on_time_is_not_delayed_by_a_late_one(paced: Scene) -> None:
    """T000-15: together they have twice the planned rate"""
    await paced.put_videos(400)
    late = await paced.plan()
    job_id = (await paced.slots(late))[0]["job_id"]
    await paced.plan_next(job_id)
    on_time = late + 1
    counts = await work_for(paced, timedelta(hours=8), 12 * MINUTE)
    assert {seen.get(on_time, 0) for seen in counts} == {10}
    total = [sum(seen.values()) for seen in counts]
    assert max(total) <= 20
    assert sum(seen.get(late, 0) for seen in counts) >= 380


async def test_a_run_that_was_asked_for_is_not_paced(paced: Scene) -> None:
    await paced.put_videos(100)
    await paced.plan()
    paced.to_the_end_of_the_window()
    await paced.one.planner.plan_repeat(JOB.name, uuid.uuid4(), timedelta())
    paced.clock.at += timedelta(minutes=10)
    (seen,) = await work_for(paced, MINUTE, MINUTE)
    assert sorted(seen.values()) == [10, 100]


async def test_schedulers_share_the_pace(paced: Scene) -> None:
    await paced.put_videos(100)
    await paced.plan()
    paced.to_the_end_of_the_window()
    asks = [paced.lease(f"w{number}", scheduler=number % 2) for number in range(6)]
    assert sum(lease is not None for lease in await asyncio.gather(*asks)) == 1


async def test_a_slot_that_cannot_be_paid_does_not_use_the_pace(paced: Scene) -> None:
    """Of leases at once, which all see a unit that is left, one pays."""
    await paced.put_quota(2)  # one of them is protected
    await paced.put_videos(100)
    await paced.plan(quotas={"youtube_units": 1}, batch=10, length_minutes=1)
    paced.clock.at += timedelta(seconds=50)
    asks = [paced.lease(f"w{number}", scheduler=number % 2) for number in range(6)]
    assert sum(lease is not None for lease in await asyncio.gather(*asks)) == 1
    until = await paced.pool.fetchval("select paced_until from scheduler.sync_pace")
    assert until - paced.clock.at <= timedelta(seconds=3)


async def test_the_next_look_is_when_overdue_slots_may_be_leased_again(paced: Scene) -> None:
    await paced.put_videos(100)
    await paced.plan()
    paced.to_the_end_of_the_window()
    assert await paced.lease() is not None
    until = await paced.pool.fetchval("select paced_until from scheduler.sync_pace")
    assert until - paced.clock.at == timedelta(minutes=24)
    bell = paced.one.leases._due
    paced.clock.at = until - timedelta(seconds=0.5)
    rung = bell.count
    assert await paced.one.ticker.tick(paced.pool) == pytest.approx(0.5)
    assert bell.count == rung
    paced.clock.at = until
    await paced.one.ticker.tick(paced.pool)
    assert bell.count == rung + 1


async def test_a_run_that_is_not_finished_in_time_is_partial_and_a_batch_under_way_is_recorded(
    scene: Scene,
) -> None:
    """R000-12"""
    await scene.put_videos(50)
    run_id = await scene.plan()
    scene.to_the_end_of_the_window()
    first = await scene.must_lease("a")
    await scene.report(first)
    await scene.report(first, 1)
    scene.clock.at += timedelta(hours=48) - timedelta(seconds=10)
    await scene.one.ticker.tick(scene.pool)
    assert await scene.run_state(run_id) == "running"
    under_way, lost = await scene.must_lease("b"), await scene.must_lease("c")
    scene.clock.at += timedelta(seconds=10)
    await scene.one.ticker.tick(scene.pool)
    run = (await runs(scene))[0]
    assert (run["state"], run["ended_at"], run["unreached"]) == ("partial", None, 20)
    assert run["reason"] == "not finished 48 h after its window closed"
    assert (await scene.must_lease("d")).slot.run_id != run_id
    answer = await scene.report(under_way)
    assert (answer.recorded, answer.permit) == (5, None)
    assert len(await scene.attempts(run_id)) == 15
    scene.clock.at += MINUTE  # the lease of c expires
    await scene.one.ticker.tick(scene.pool)
    run = (await runs(scene))[0]
    assert (run["state"], run["ended_at"], run["unreached"]) == ("partial", scene.clock.at, 35)
    assert {slot["state"] for slot in await scene.slots(run_id)} == {"done", "cancelled"}
    assert lost.slot.run_id == run_id


async def test_a_run_that_is_cancelled_takes_its_queued_slots_and_retries(scene: Scene) -> None:
    """R000-12"""
    await scene.put_videos(30)
    run_id = await scene.plan()
    scene.to_the_end_of_the_window()
    failed, under_way = await scene.must_lease("a"), await scene.must_lease("b")
    await scene.report(failed, outcome=Outcome.RETRY)
    await scene.report(failed, 1)
    for reason in ("mistake", "again"):
        await cancel_run(scene.pool, run_id, reason, scene.clock.at)
    run = (await runs(scene))[0]
    assert (run["state"], run["reason"], run["ended_at"], run["unreached"]) == (
        "cancelled",
        "mistake",
        None,
        10,
    )
    assert await scene.lease("c") is None
    answer = await scene.report(under_way)
    assert (answer.recorded, answer.permit) == (5, None)
    scene.clock.at += timedelta(minutes=10)
    for _ in range(2):
        await scene.one.ticker.tick(scene.pool)
    run = (await runs(scene))[0]
    assert (run["state"], run["ended_at"], run["unreached"]) == ("cancelled", scene.clock.at, 15)
    assert {slot["lane"] for slot in await scene.slots(run_id)} == {SCHEDULED}
    assert (
        await scene.pool.fetchval("select count(*) from scheduler.sync_state where next_try_at is not null")
        == 0
    )


async def test_a_run_that_has_ended_is_not_cancelled(scene: Scene) -> None:
    run_id = await scene.plan()
    assert await scene.lease() is None  # it has no members
    await scene.one.ticker.tick(scene.pool)
    with pytest.raises(RunEnded, match=f"run {run_id} is done"):
        await cancel_run(scene.pool, run_id, "late", scene.clock.at)
    with pytest.raises(NotFound):
        await cancel_run(scene.pool, run_id + 1, "none", scene.clock.at)


async def test_a_run_that_was_asked_for_does_not_run_out_of_time(scene: Scene) -> None:
    await scene.put_videos(10)
    await scene.put_job()
    run_id = await scene.one.planner.plan_repeat(JOB.name, uuid.uuid4(), timedelta())
    scene.clock.at += 30 * DAY
    await scene.one.ticker.tick(scene.pool)
    assert await scene.run_state(run_id) == "planned"


@pytest.mark.parametrize(
    ("overlap", "states"),
    [
        (Overlap.QUEUE, ["planned", "planned", "planned"]),
        (Overlap.SKIP, ["planned", "skipped", "skipped"]),
        (Overlap.BUFFER_ONE, ["planned", "planned", "skipped"]),
    ],
)
async def test_what_becomes_of_a_run_while_earlier_ones_are_open(
    scene: Scene, overlap: Overlap, states: list[str]
) -> None:
    await scene.put_videos(10)
    job_id = await scene.put_job(overlap=overlap)
    for _ in range(3):
        await scene.plan_next(job_id)
    found = await runs(scene)
    assert [run["state"] for run in found] == states
    for run in found:
        if run["state"] == "skipped":
            assert run["reason"].startswith(f"run {found[0]['run_id']} has not ended")
            assert (run["skipped"], run["skipped_until"]) == (1, run["logical_at"])
    scene.to_the_end_of_the_window()
    await scene.work_off()
    await scene.one.ticker.tick(scene.pool)
    await scene.plan_next(job_id)
    assert (await runs(scene))[-1]["state"] == "planned"
