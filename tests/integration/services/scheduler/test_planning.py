"""A job that is due becomes a run with its slots."""

import asyncio
import uuid
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from services.scheduler.outcomes import Outcome
from tally.contract.errors import InvalidRequest
from tests.integration.services.scheduler.scheduling import DAY, JOB, MONDAY, Scene, ids_of


async def test_members_are_cut_by_key_at_exactly_the_slot_size(scene: Scene) -> None:
    """T000-19"""
    await scene.put_videos(95)
    run_id = await scene.plan()
    slots = await scene.slots(run_id)
    assert [slot["members"] for slot in slots] == [10] * 9 + [5]
    keys = [
        (row["sync_bin"], row["youtube_id"])
        for row in await scene.pool.fetch(
            "select sync_bin, youtube_id from scheduler.youtube_video order by sync_bin, youtube_id"
        )
    ]
    assert [(slot["upper_bin"], slot["upper_id"]) for slot in slots[:-1]] == keys[9:90:10]
    assert [(slot["lower_bin"], slot["lower_id"]) for slot in slots[1:]] == keys[9:90:10]
    assert (slots[0]["lower_bin"], slots[-1]["upper_bin"]) == (-1, 2**31 - 1)


async def test_a_slot_is_due_at_the_fraction_of_the_window_of_the_members_before_it(scene: Scene) -> None:
    """T000-18"""
    await scene.put_videos(95)
    run_id = await scene.plan()
    opens = MONDAY + timedelta(hours=9)
    for number, slot in enumerate(await scene.slots(run_id)):
        expected = opens + JOB.length * (number * 10 / 95)
        assert abs(slot["due_at"] - expected) < timedelta(milliseconds=1)


async def test_only_the_members_of_the_bins_are_in_a_run(scene: Scene) -> None:
    """000-24, T000-13: the logical time decides the bins"""
    await scene.put_videos(200)
    run_id = await scene.plan(preset="twice_weekly", bin_max=7, offsets=(0, 4), sla_hours=120)
    run = await scene.pool.fetchrow("select * from scheduler.sync_run where run_id = $1", run_id)
    assert (run["bin_numbers"], run["bin_max"], run["logical_at"]) == ([0, 4], 7, MONDAY)
    expected = await scene.pool.fetch(
        "select youtube_id from scheduler.youtube_video where sync_bin % 7 in (0, 4) order by youtube_id"
    )
    scene.to_the_end_of_the_window()
    await scene.work_off()
    assert await scene.attempts(run_id) == [row["youtube_id"] for row in expected]
    assert run["members"] == len(expected) > 0


async def test_every_member_is_met_twice_a_week(scene: Scene) -> None:
    """000-24, T000-08"""
    ids = await scene.put_videos(60)
    job_id = await scene.put_job(preset="twice_weekly", bin_max=7, offsets=(0, 4), sla_hours=120)
    for _ in range(7):
        await scene.plan_next(job_id)
        scene.to_the_end_of_the_window()
        await scene.work_off()
    counts = await scene.pool.fetch(
        "select item_id, count(*) as n from scheduler.sync_attempt group by item_id"
    )
    assert {row["item_id"]: row["n"] for row in counts} == dict.fromkeys(ids, 2)


async def test_filters_leave_other_members_out(scene: Scene) -> None:
    """000-23"""
    await scene.put_videos(15, "a", is_oon=True, has_label_association=True)
    await scene.put_videos(15, "b", is_oon=True)
    await scene.put_videos(15, "c")
    run_id = await scene.plan(where={"is_oon": True, "has_label_association": False})
    scene.to_the_end_of_the_window()
    await scene.work_off()
    assert [item[0] for item in await scene.attempts(run_id)] == ["b"] * 15


async def test_two_schedulers_that_plan_at_once_make_one_run(pair: Scene) -> None:
    """R000-01, T000-31"""
    await pair.put_videos(50)
    job_id = await pair.put_job()
    for _ in range(5):
        pair.clock.at = await pair.pool.fetchval("select next_plan_at from scheduler.sync_job")
        await asyncio.gather(*(parts.planner.plan(job_id) for parts in pair.schedulers for _ in range(2)))
    runs = await pair.pool.fetch("select logical_at, repeat, slots from scheduler.sync_run order by run_id")
    assert [(run["logical_at"], run["repeat"], run["slots"]) for run in runs] == [
        (MONDAY + day * DAY, 0, 5) for day in range(5)
    ]
    assert await pair.pool.fetchval("select count(*) from scheduler.sync_slot") == 25


async def test_a_run_that_is_there_already_is_not_planned_again(scene: Scene) -> None:
    """R000-01: the table itself keeps a run unique, whatever a scheduler takes for due"""
    await scene.put_videos(20)
    job_id = await scene.put_job()
    await scene.plan_next(job_id)
    await scene.pool.execute(
        "update scheduler.sync_job set next_logical_at = $1, next_plan_at = $2", MONDAY, scene.clock.at
    )
    assert await scene.one.planner.plan(job_id)
    assert await scene.pool.fetchval("select count(*) from scheduler.sync_run") == 1
    assert await scene.pool.fetchval("select count(*) from scheduler.sync_slot") == 2
    assert await scene.pool.fetchval("select next_logical_at from scheduler.sync_job") == MONDAY + DAY


async def test_a_run_keeps_the_definition_that_it_was_planned_with(scene: Scene) -> None:
    """R000-01"""
    ids = await scene.put_videos(20)
    run_id = await scene.plan()
    await scene.put_job(batch=2, slot_size=4, where={"is_oon": True})
    scene.to_the_end_of_the_window()
    lease = await scene.must_lease()
    assert [len(batch) for batch in lease.batches] == [5, 5]
    await scene.report(lease)
    await scene.report(lease, 1)
    await scene.work_off()
    assert await scene.attempts(run_id) == ids


async def test_a_missed_run_is_planned_late_under_its_own_logical_time(scene: Scene) -> None:
    """T000-13, T000-15"""
    await scene.put_videos(30)
    job_id = await scene.put_job(preset="weekly", bin_max=7, offsets=(0,), sla_hours=200)
    scene.clock.at = MONDAY + timedelta(hours=40)  # Monday's window opened 31 h ago, Tuesday's 7 h
    assert await scene.one.planner.plan(job_id)
    assert await scene.one.planner.plan(job_id)
    assert not await scene.one.planner.plan(job_id)
    runs = await scene.pool.fetch("select logical_at, bin_numbers from scheduler.sync_run order by run_id")
    assert [(run["logical_at"], run["bin_numbers"]) for run in runs] == [(MONDAY, [0]), (MONDAY + DAY, [1])]


async def test_runs_older_than_the_catch_up_are_skipped_and_told_in_one_row(scene: Scene) -> None:
    """T000-15"""
    await scene.put_videos(30)
    job_id = await scene.put_job()
    scene.clock.at = MONDAY + 10 * DAY + timedelta(hours=10)
    while await scene.one.planner.plan(job_id):
        pass
    skipped, *planned = await scene.pool.fetch("select * from scheduler.sync_run order by logical_at")
    assert (skipped["state"], skipped["skipped"], skipped["logical_at"]) == ("skipped", 9, MONDAY)
    assert skipped["skipped_until"] == MONDAY + 8 * DAY
    assert "more than 48 h" in skipped["reason"]
    assert [run["logical_at"] for run in planned] == [MONDAY + 9 * DAY, MONDAY + 10 * DAY]


async def test_a_run_is_repeated_once_for_a_request(pair: Scene) -> None:
    """R000-01"""
    await pair.put_videos(20)
    await pair.put_job()
    request_id, other = uuid.uuid4(), uuid.uuid4()
    within = timedelta(0)
    first = await pair.one.planner.plan_repeat(JOB.name, request_id, within)
    again = await pair.schedulers[1].planner.plan_repeat(JOB.name, request_id, within)
    second = await pair.one.planner.plan_repeat(JOB.name, other, within)
    assert first == again != second
    rows = await pair.pool.fetch("select repeat from scheduler.sync_run order by run_id")
    assert [row["repeat"] for row in rows] == [1, 2]
    assert {slot["due_at"] for slot in await pair.slots(first)} == {pair.clock.at}
    with pytest.raises(InvalidRequest, match="window"):
        await pair.one.planner.plan_repeat(JOB.name, uuid.uuid4(), JOB.length * 2)


async def test_a_run_without_members_takes_those_that_are_put_before_its_slot_is_leased(scene: Scene) -> None:
    """T000-36"""
    run_id = await scene.plan()
    (slot,) = await scene.slots(run_id)
    assert slot["members"] == 0
    ids = await scene.put_videos(25)
    assert ids_of((await scene.must_lease()).batches) != []
    scene.clock.move(60)
    assert await scene.work_off() == 3
    assert await scene.attempts(run_id) == ids


async def test_members_that_are_gone_are_in_no_run_until_they_are_put_again(scene: Scene) -> None:
    ids = await scene.put_videos(10)
    job_id = await scene.put_job()
    await scene.plan_next(job_id)
    await scene.report(await scene.must_lease(), outcome=Outcome.GONE)
    gone = {
        row["youtube_id"]
        for row in await scene.pool.fetch("select * from scheduler.youtube_video where gone")
    }
    assert len(gone) == 5
    scene.clock.move(60)  # the lease of the second batch expires
    await scene.plan_next(job_id)
    run_id = await scene.pool.fetchval("select max(run_id) from scheduler.sync_run")
    assert [slot["members"] for slot in await scene.slots(run_id)] == [5]
    await scene.put_videos(10)
    assert await scene.pool.fetchval("select count(*) from scheduler.youtube_video where gone") == 0
    assert await scene.pool.fetchval(
        "select count(*) from scheduler.youtube_video where member_since = $1", scene.clock.at
    ) == len(gone)
    assert len(ids) == 10


async def test_a_job_that_is_changed_keeps_its_next_period_unless_its_rhythm_changes(scene: Scene) -> None:
    job_id = await scene.put_job()
    await scene.plan_next(job_id)
    scene.clock.move(60)
    await scene.put_job(batch=10)
    assert await scene.pool.fetchval("select next_logical_at from scheduler.sync_job") == MONDAY + DAY
    await scene.put_job(start_minutes=600)
    assert await scene.pool.fetchval("select next_plan_at from scheduler.sync_job") == MONDAY + timedelta(
        hours=10
    )
    with pytest.raises(InvalidRequest, match="population"):
        await scene.put_job(population="youtube_channel")


async def test_a_run_is_told_with_its_bins(scene: Scene) -> None:
    """000-31, 000-65"""
    await scene.put_videos(70)
    with capture_logs() as logs:
        run_id = await scene.plan(preset="twice_weekly", bin_max=7, offsets=(0, 4), sla_hours=120)
    (told,) = (line for line in logs if line["event"] == "run planned")
    run = await scene.pool.fetchrow("select * from scheduler.sync_run where run_id = $1", run_id)
    assert (told["job"], told["run_id"], told["bin_numbers"], told["bin_max"]) == (
        JOB.name,
        run_id,
        [0, 4],
        7,
    )
    assert (told["bin_videos"], told["num_chunks"]) == (run["members"], run["slots"])
