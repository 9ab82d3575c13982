"""Items that are tried again, one by one, and those that are given up."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from services.scheduler.lanes import RETRY
from services.scheduler.leases import Lease
from services.scheduler.outcomes import MOST_RETRIES, ItemOutcome, Outcome
from services.scheduler.reports import Report
from services.scheduler.retries import gather_retries
from services.scheduler.runs import end_runs
from tally.contract.errors import NotFound
from tests.integration.services.scheduler.scheduling import JOB, Scene, begin_key, ids_of, open_scene

LETTERS = "select item_id, run_id, tries, outcome, detail from scheduler.sync_dead_letter order by item_id"
MOST_BACKOFF_SECONDS = 315.0


@pytest_asyncio.fixture
async def scene(dsn: str) -> AsyncIterator[Scene]:
    async with open_scene(dsn, schedulers=2) as opened:
        yield opened


async def report(
    scene: Scene, lease: Lease, outcomes: Mapping[str, Outcome], batch: int = 0, **of_item: Any
) -> None:
    """Report a batch: SYNCED, unless `outcomes` says otherwise of an item."""
    items = [
        ItemOutcome(each, outcomes[each], f"detail of {each}", **of_item)
        if each in outcomes
        else ItemOutcome(each, Outcome.SYNCED)
        for each in ids_of([lease.batches[batch]])
    ]
    await scene.one.reports.report(Report(lease.slot.id, lease.token, begin_key(lease, batch), items))


async def work_off(scene: Scene, outcomes: Mapping[str, Outcome]) -> list[tuple[int, list[str]]]:
    """Lease and report all that is due: the try and the items of each batch."""
    worked = []
    while (lease := await scene.lease()) is not None:
        for batch in range(len(lease.batches)):
            await report(scene, lease, outcomes, batch)
            worked.append((lease.slot.try_number, ids_of([lease.batches[batch]])))
    return worked


async def gather(scene: Scene) -> int:
    """Let the next tries of all items become due, and gather them."""
    scene.clock.move(MOST_BACKOFF_SECONDS)
    job_id = await scene.pool.fetchval("select job_id from scheduler.sync_job where name = $1", JOB.name)
    return await gather_retries(scene.pool, job_id, scene.clock.at)


async def letters(scene: Scene) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await scene.pool.fetch(LETTERS)]


async def is_ended(scene: Scene, run_id: int) -> bool:
    await end_runs(scene.pool, scene.clock.at)
    return await scene.run_state(run_id) == "done"


async def test_items_that_failed_share_a_call_and_the_others_are_not_called_again(scene: Scene) -> None:
    """T000-17"""
    ids = await scene.put_videos(23)
    run_id = await scene.plan()
    scene.to_the_end_of_the_window()
    bad = {ids[number]: Outcome.RETRY for number in (1, 8, 22)}
    await work_off(scene, bad)
    assert not await is_ended(scene, run_id)
    assert await gather(scene) == 3
    assert await work_off(scene, {}) == [(1, sorted(bad))]
    assert await is_ended(scene, run_id)
    tries = await scene.pool.fetch(
        "select item_id, try, outcome from scheduler.sync_attempt where try > 0 order by item_id"
    )
    assert [tuple(row) for row in tries] == [(each, 1, Outcome.SYNCED) for each in sorted(bad)]
    assert await letters(scene) == []


async def test_an_item_is_tried_again_three_times_and_then_it_is_a_dead_letter(scene: Scene) -> None:
    """000-32"""
    ids = await scene.put_videos(3)
    run_id = await scene.plan()
    scene.to_the_end_of_the_window()
    bad = {ids[1]: Outcome.RETRY}
    await work_off(scene, bad)
    for number in range(1, MOST_RETRIES + 1):
        assert await letters(scene) == []
        assert await gather(scene) == 1
        assert await work_off(scene, bad) == [(number, [ids[1]])]
    assert await letters(scene) == [(ids[1], run_id, 4, Outcome.RETRY, f"detail of {ids[1]}")]
    assert await gather(scene) == 0
    assert await is_ended(scene, run_id)


@pytest.mark.parametrize("success", [Outcome.SYNCED, Outcome.UNCHANGED, Outcome.GONE])
async def test_an_item_that_failed_is_in_later_runs_and_a_success_closes_its_letter(
    scene: Scene, success: Outcome
) -> None:
    """000-74"""
    ids = await scene.put_videos(3)
    await scene.plan()
    scene.to_the_end_of_the_window()
    await work_off(scene, {ids[0]: Outcome.FAILED})
    assert [letter[0] for letter in await letters(scene)] == [ids[0]]
    assert await gather(scene) == 0
    job_id = await scene.pool.fetchval("select job_id from scheduler.sync_job")
    await scene.plan_next(job_id)
    scene.to_the_end_of_the_window()
    (worked,) = await work_off(scene, {ids[0]: success})
    assert (worked[0], sorted(worked[1])) == (0, sorted(ids))
    assert await letters(scene) == []


async def test_items_that_were_given_up_are_planned_once_for_a_request_and_tried_from_the_first(
    scene: Scene,
) -> None:
    ids = await scene.put_videos(4)
    run_id = await scene.plan()
    scene.to_the_end_of_the_window()
    await work_off(scene, dict.fromkeys(ids[:2], Outcome.FAILED))
    request_id = uuid.uuid4()
    plan = scene.one.planner.plan_letters
    again = await plan(JOB.name, request_id, [ids[0], ids[3], "stranger"])
    assert again == await plan(JOB.name, request_id, [ids[0]]) != run_id
    assert await work_off(scene, {ids[0]: Outcome.RETRY}) == [(0, [ids[0]])]
    assert await gather(scene) == 1
    assert await work_off(scene, {}) == [(1, [ids[0]])]
    assert [letter[0] for letter in await letters(scene)] == [ids[1]]
    assert await is_ended(scene, again)
    with pytest.raises(NotFound, match="none of these items is a dead letter"):
        await plan(JOB.name, uuid.uuid4(), [ids[3]])


async def test_there_is_one_letter_for_an_item_however_often_it_fails(scene: Scene) -> None:
    ids = await scene.put_videos(1)
    job_id = await scene.put_job()
    for _ in range(2):
        await scene.plan_next(job_id)
        scene.to_the_end_of_the_window()
        await work_off(scene, {ids[0]: Outcome.FAILED})
    run_id = await scene.pool.fetchval("select max(run_id) from scheduler.sync_run")
    assert await letters(scene) == [(ids[0], run_id, 1, Outcome.FAILED, f"detail of {ids[0]}")]


async def test_a_late_failure_of_an_older_run_changes_nothing_of_the_newer_one(scene: Scene) -> None:
    """The slot of the older one is leased while the newer run syncs the item; its report still counts for its run."""
    ids = await scene.put_videos(1)
    job_id = await scene.put_job()
    await scene.plan_next(job_id)
    scene.to_the_end_of_the_window()
    old = await scene.must_lease("old")
    await scene.one.planner.plan_repeat(JOB.name, uuid.uuid4(), timedelta())
    assert [worked[0] for worked in await work_off(scene, {})] == [0]
    await report(scene, old, {ids[0]: Outcome.FAILED})
    outcomes = await scene.pool.fetch("select outcome from scheduler.sync_attempt order by run_id")
    assert [row["outcome"] for row in outcomes] == [Outcome.FAILED, Outcome.SYNCED]
    assert await letters(scene) == []
    await scene.one.planner.plan_repeat(JOB.name, uuid.uuid4(), timedelta())
    newest = await scene.must_lease()
    await report(scene, newest, {ids[0]: Outcome.RETRY})
    assert await gather(scene) == 1


async def test_two_schedulers_that_gather_at_once_make_each_slot_once(scene: Scene) -> None:
    ids = await scene.put_videos(30)
    run_id = await scene.plan()
    scene.to_the_end_of_the_window()
    await work_off(scene, dict.fromkeys(ids, Outcome.RETRY))
    scene.clock.move(MOST_BACKOFF_SECONDS)
    job_id = (await scene.slots(run_id))[0]["job_id"]
    gathered = await asyncio.gather(*(gather_retries(scene.pool, job_id, scene.clock.at) for _ in range(4)))
    assert sum(gathered) == 30
    retried = [slot for slot in await scene.slots(run_id) if slot["lane"] == RETRY]
    assert sorted(each for slot in retried for each in slot["item_ids"]) == sorted(ids)
    assert [len(slot["item_ids"]) for slot in retried] == [10, 10, 10]


async def test_the_delay_that_a_handler_states_is_kept(scene: Scene) -> None:
    ids = await scene.put_videos(1)
    await scene.plan()
    lease = await scene.must_lease()
    await report(scene, lease, {ids[0]: Outcome.RETRY}, retry_after_seconds=1_000.0)
    due_at = await scene.pool.fetchval("select next_try_at from scheduler.sync_state")
    assert timedelta(seconds=1_000) <= due_at - scene.clock.at <= timedelta(seconds=1_015)
    assert await gather(scene) == 0
    scene.clock.move(1_000)
    assert await gather(scene) == 1


async def test_a_retry_pays_and_a_member_that_is_gone_is_not_called(scene: Scene) -> None:
    await scene.put_quota(100)
    ids = await scene.put_videos(2)
    run_id = await scene.plan(quotas={"youtube_units": 1})
    scene.to_the_end_of_the_window()
    await work_off(scene, dict.fromkeys(ids, Outcome.RETRY))
    assert sum((await scene.used()).values()) == 1
    await scene.pool.execute("update scheduler.youtube_video set gone = true where youtube_id = $1", ids[0])
    assert await gather(scene) == 2
    assert await work_off(scene, {}) == [(1, [ids[1]])]
    assert sum((await scene.used()).values()) == 2
    assert await is_ended(scene, run_id)


async def test_retries_get_a_quarter_of_the_leases_while_scheduled_slots_wait(scene: Scene) -> None:
    ids = await scene.put_videos(200)
    run_id = await scene.plan(slot_size=5)
    scene.to_the_end_of_the_window()
    for _ in range(8):
        lease = await scene.must_lease()
        await report(scene, lease, dict.fromkeys(ids, Outcome.RETRY))
    assert await gather(scene) == 40
    tries = []
    for _ in range(8):
        lease = await scene.must_lease()
        await report(scene, lease, {})
        tries.append(lease.slot.try_number)
    assert tries.count(1) == 2
    assert await scene.run_state(run_id) == "running"
