"""Forced syncs: one item, at once, from the protected share."""

import asyncio
import uuid
from datetime import timedelta

import pytest

from services.scheduler.forced import ForcedState, read_forced, wait_for
from services.scheduler.job_rows import JobState, set_state
from services.scheduler.lanes import FORCED
from services.scheduler.leases import Lease
from services.scheduler.outcomes import Outcome
from services.scheduler.retries import gather_retries
from services.scheduler.returns import Reason, Return
from services.scheduler.timekeeper import Timekeeper
from tally.contract.errors import NotFound
from tests.integration.services.scheduler.scheduling import JOB, Scene, ids_of


async def force(scene: Scene, item_id: str, request_id: uuid.UUID | None = None, scheduler: int = 0) -> int:
    planner = scene.schedulers[scheduler].planner
    return await planner.plan_forced(JOB.name, request_id or uuid.uuid4(), item_id)


async def state_of(scene: Scene, run_id: int, item_id: str) -> ForcedState:
    return (await read_forced(scene.pool, run_id, item_id, scene.clock.at)).state


async def forced_lease(scene: Scene, run_id: int) -> Lease:
    lease = await scene.must_lease()
    assert (lease.slot.run_id, lease.slot.is_forced) == (run_id, True)
    return lease


async def test_a_forced_sync_comes_before_the_slots_of_every_job(scene: Scene) -> None:
    """000-33"""
    ids = await scene.put_videos(50)
    await scene.plan(name="other")
    await scene.plan()
    scene.to_the_end_of_the_window()
    run_id = await force(scene, ids[7])
    lease = await forced_lease(scene, run_id)
    assert ids_of(lease.batches) == [ids[7]]
    assert await state_of(scene, run_id, ids[7]) is ForcedState.LEASED
    await scene.report(lease, outcome=Outcome.UNCHANGED)
    forced = await read_forced(scene.pool, run_id, ids[7], scene.clock.at)
    assert (forced.state, forced.outcome, forced.has_ended) == (ForcedState.DONE, Outcome.UNCHANGED, True)
    assert not (await scene.must_lease()).slot.is_forced


async def test_the_protected_share_pays_and_no_more_than_the_limit(scene: Scene) -> None:
    """T000-30"""
    ids = await scene.put_videos(30)
    await scene.put_quota(4, protected_percent=50)
    await scene.plan(quotas={"youtube_units": 1})
    scene.to_the_end_of_the_window()
    assert await scene.work_off() == 1  # a slot of two batches
    for item_id in ids[:2]:
        await scene.report(await forced_lease(scene, await force(scene, item_id)))
    last = await force(scene, ids[2])
    assert await scene.lease() is None
    (use,) = await scene.pool.fetch("select used, forced from scheduler.quota_use where used + forced > 0")
    assert tuple(use) == (2, 2)
    assert await state_of(scene, last, ids[2]) is ForcedState.QUEUED


async def test_a_payment_for_a_call_that_was_not_made_comes_back_to_the_protected_share(scene: Scene) -> None:
    """R000-10"""
    ids = await scene.put_videos(3)
    await scene.put_quota(4)
    await scene.put_job(quotas={"youtube_units": 1})
    lease = await forced_lease(scene, await force(scene, ids[0]))
    await scene.one.returns.give_back(Return(lease.slot.id, lease.token, Reason.NOT_SENT))
    uses = await scene.pool.fetch("select used, forced from scheduler.quota_use")
    assert {tuple(use) for use in uses} == {(0, 0)}


async def test_one_is_in_progress_for_an_item_and_a_request_is_planned_once(pair: Scene) -> None:
    """T000-30"""
    ids = await pair.put_videos(3)
    await pair.put_job()
    run_ids = await asyncio.gather(*(force(pair, ids[0], scheduler=number % 2) for number in range(6)))
    assert len(set(run_ids)) == 1
    request_id = uuid.uuid4()
    other = await force(pair, ids[1], request_id)
    assert other == await force(pair, ids[1], request_id) != run_ids[0]
    for _ in range(2):
        await pair.report(await pair.must_lease())
    assert await force(pair, ids[1], request_id) == other
    assert await force(pair, ids[1]) not in (other, run_ids[0])
    repeats = await pair.pool.fetch("select repeat from scheduler.sync_run order by run_id")
    assert [row["repeat"] for row in repeats] == [1, 2, 3]


async def test_a_paused_job_is_forced_and_a_resting_one_waits(scene: Scene) -> None:
    ids = await scene.put_videos(30)
    await scene.plan()
    scene.to_the_end_of_the_window()
    await set_state(scene.pool, JOB.name, JobState.PAUSED, "upgrade", scene.clock.at)
    run_id = await force(scene, ids[0])
    bell = scene.one.leases._due.count
    await scene.one.ticker.tick(scene.pool)
    assert scene.one.leases._due.count == bell + 1
    lease = await forced_lease(scene, run_id)
    assert await scene.lease() is None
    await scene.one.returns.give_back(Return(lease.slot.id, lease.token, Reason.CALL_FAILED))
    assert await scene.lease() is None
    forced = await read_forced(scene.pool, run_id, ids[0], scene.clock.at)
    assert (forced.state, forced.due_at) == (ForcedState.QUEUED, scene.clock.at + timedelta(seconds=1))
    scene.clock.move(1)
    await scene.report(await forced_lease(scene, run_id))
    assert await state_of(scene, run_id, ids[0]) is ForcedState.DONE


async def test_a_member_that_has_gone_since_is_dropped_and_no_member_is_refused(scene: Scene) -> None:
    ids = await scene.put_videos(2)
    await scene.put_job()
    run_id = await force(scene, ids[0])
    await scene.pool.execute("update scheduler.youtube_video set gone = true where youtube_id = $1", ids[0])
    assert await scene.lease() is None
    assert await state_of(scene, run_id, ids[0]) is ForcedState.DROPPED
    for item_id in (ids[0], "stranger"):
        with pytest.raises(NotFound, match=f"{JOB.name} selects no '{item_id}'"):
            await force(scene, item_id)


async def test_an_item_that_fails_is_tried_again_and_another_request_does_not_wait_for_it(
    scene: Scene,
) -> None:
    ids = await scene.put_videos(1)
    job_id = await scene.put_job()
    run_id = await force(scene, ids[0])
    await scene.report(await scene.must_lease(), outcome=Outcome.RETRY)
    forced = await read_forced(scene.pool, run_id, ids[0], scene.clock.at)
    assert (forced.state, forced.outcome) == (ForcedState.DONE, Outcome.RETRY)
    assert await force(scene, ids[0]) != run_id
    await scene.report(await scene.must_lease())
    scene.clock.move(400)
    assert await gather_retries(scene.pool, job_id, scene.clock.at) == 0


async def test_the_wait_ends_with_the_outcome_or_with_the_state(scene: Scene) -> None:
    ids = await scene.put_videos(1)
    await scene.put_job()
    run_id = await force(scene, ids[0])
    timekeeper = Timekeeper(scene.clock, scene.pool, 0.05)
    heard = scene.one.heard
    early = await wait_for(scene.pool, timekeeper, heard, run_id, ids[0], 0)
    assert early.state is ForcedState.QUEUED
    waiting = asyncio.create_task(wait_for(scene.pool, timekeeper, heard, run_id, ids[0], 20))
    await scene.report(await scene.must_lease())
    heard.ring()
    assert (await waiting).outcome is Outcome.SYNCED
    assert [slot["lane"] for slot in await scene.slots(run_id)] == [FORCED]
