"""Quotas of units a day: paid batch by batch, never overdrawn, closed when the other side refuses."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from services.scheduler.returns import Reason, Return
from services.scheduler.slots import State
from tally.contract.errors import InvalidRequest
from tests.integration.services.scheduler.scheduling import DAY, MONDAY, Scene, ids_of

QUOTAS = {"youtube_units": 1}
RESET = datetime(2026, 3, 3, 8, tzinfo=UTC)
"""Midnight in California, at the end of Monday 2026-03-02."""


async def test_a_lease_pays_its_first_batch_and_each_report_the_next(scene: Scene) -> None:
    """R000-07"""
    await scene.put_videos(20)
    await scene.put_quota(100)
    await scene.plan(quotas=QUOTAS)
    lease = await scene.must_lease()
    assert await scene.used() == {"2026-03-02": 1}
    await scene.report(lease)
    assert await scene.used() == {"2026-03-02": 2}
    await scene.report(lease, 1)
    assert await scene.used() == {"2026-03-02": 2}


async def test_what_cannot_be_paid_waits_at_its_key_for_the_next_day(scene: Scene) -> None:
    """R000-07, T000-19"""
    await scene.put_videos(20)
    await scene.put_quota(4)  # one unit of which is protected
    run_id = await scene.plan(quotas=QUOTAS)
    scene.to_the_end_of_the_window()
    first = await scene.must_lease()
    await scene.report(first)
    await scene.report(first, 1)
    second = await scene.must_lease()
    answer = await scene.report(second)
    assert (answer.state, answer.permit) == (State.QUEUED, None)
    assert await scene.lease() is None
    assert (await scene.slots(run_id))[1]["due_at"] == RESET + timedelta(minutes=1)
    scene.clock.at = RESET + timedelta(minutes=1)
    rest = await scene.must_lease()
    assert ids_of(rest.batches) == ids_of(second.batches[1:])
    assert await scene.used() == {"2026-03-02": 3, "2026-03-03": 1}


async def test_slots_of_a_closed_quota_block_no_others(scene: Scene) -> None:
    await scene.put_videos(20)
    await scene.put_quota(2)
    await scene.put_quota(100, "other")
    await scene.plan(name="dear", quotas=QUOTAS, start_minutes=0)
    await scene.plan(name="free", quotas={"other": 1})
    scene.to_the_end_of_the_window()
    jobs = [(await scene.must_lease()).slot.job for _ in range(3)]
    assert sorted(jobs) == ["dear", "free", "free"]
    assert await scene.lease() is None


async def test_a_batch_pays_all_its_quotas_or_none(scene: Scene) -> None:
    """R000-06"""
    await scene.put_videos(20)
    await scene.put_quota(100, "a")
    await scene.put_quota(2, "b")
    await scene.plan(quotas={"a": 3, "b": 1})
    scene.to_the_end_of_the_window()
    assert (await scene.report(await scene.must_lease())).state is State.QUEUED
    assert await scene.used("a") == {"2026-03-02": 3}
    assert await scene.used("b") == {"2026-03-02": 1}


@pytest.mark.parametrize("seconds", [-3600, -90, -30, 0, 30, 90])
async def test_leases_at_once_never_overdraw_a_day_and_near_a_reset_pay_both(
    pair: Scene, seconds: int
) -> None:
    """R000-06, R000-09, T000-20"""
    await pair.put_videos(300)
    await pair.put_quota(11)
    await pair.plan(quotas=QUOTAS, length_minutes=1)
    pair.clock.at = RESET + timedelta(seconds=seconds)
    leases = await asyncio.gather(*(pair.lease(f"w{n}", scheduler=n % 2) for n in range(20)))
    assert sum(lease is not None for lease in leases) == 10
    expected = {"2026-03-02"} if seconds < -60 else {"2026-03-03"} if seconds > 60 else None
    used = await pair.used()
    assert set(used) == (expected or {"2026-03-02", "2026-03-03"})
    assert set(used.values()) == {10}


async def test_leases_and_reports_at_once_never_overdraw_a_day(pair: Scene) -> None:
    """R000-06"""
    await pair.put_videos(300)
    await pair.put_quota(32)
    run_id = await pair.plan(quotas=QUOTAS, length_minutes=1)
    pair.clock.move(60)

    async def work(worker: str, scheduler: int) -> int:
        sent = 0
        while (lease := await pair.lease(worker, scheduler=scheduler)) is not None:
            for batch in range(len(lease.batches)):
                sent += 1
                if (await pair.report(lease, batch, scheduler=scheduler)).permit is None:
                    break
        return sent

    sent = await asyncio.gather(*(work(f"w{n}", n % 2) for n in range(6)))
    assert sum(sent) == 31
    assert await pair.used() == {"2026-03-02": 31}
    assert len(await pair.attempts(run_id)) == 155


async def test_the_protected_share_is_not_for_scheduled_work(scene: Scene) -> None:
    await scene.put_videos(100)
    await scene.put_quota(10, protected_percent=30)
    await scene.plan(quotas=QUOTAS, length_minutes=1)
    scene.clock.move(60)
    await scene.work_off()
    assert await scene.used() == {"2026-03-02": 7}


async def test_what_was_paid_comes_back_by_the_workers_word_alone_and_once(scene: Scene) -> None:
    """R000-10"""
    await scene.put_videos(10)
    await scene.put_quota(100)
    await scene.plan(quotas=QUOTAS)
    lease = await scene.must_lease("frozen")
    scene.clock.move(30)
    other = await scene.must_lease("other")  # the frozen worker may still call
    assert await scene.used() == {"2026-03-02": 2}
    returned = Return(other.slot.id, other.token, Reason.NOT_SENT)
    await scene.one.returns.give_back(returned)
    await scene.one.returns.give_back(returned)
    assert await scene.used() == {"2026-03-02": 1}
    assert lease.slot.id == other.slot.id


async def test_a_payment_of_both_days_comes_back_to_both(scene: Scene) -> None:
    """R000-09, R000-10"""
    await scene.put_videos(10)
    await scene.put_quota(100)
    await scene.plan(quotas=QUOTAS)
    scene.clock.at = RESET - timedelta(seconds=30)
    lease = await scene.must_lease()
    assert await scene.used() == {"2026-03-02": 1, "2026-03-03": 1}
    scene.clock.at = RESET + timedelta(seconds=120)
    await scene.one.returns.give_back(Return(lease.slot.id, lease.token, Reason.NOT_SENT))
    assert await scene.used() == {}


async def test_a_refusal_closes_the_quota_until_its_reset(scene: Scene) -> None:
    """R000-09"""
    await scene.put_videos(20)
    await scene.put_quota(100)
    run_id = await scene.plan(quotas=QUOTAS)
    scene.to_the_end_of_the_window()
    lease = await scene.must_lease()
    await scene.one.returns.give_back(
        Return(lease.slot.id, lease.token, Reason.QUOTA_EXCEEDED, detail="quotaExceeded")
    )
    assert await scene.lease() is None
    scene.clock.at = RESET - timedelta(seconds=1)
    assert await scene.lease() is None
    scene.clock.at = RESET
    assert await scene.lease() is not None
    assert await scene.attempts(run_id) == []


async def test_a_refusal_right_after_a_reset_closes_for_a_minute_doubling(scene: Scene) -> None:
    """R000-09: a slow clock over there must not cost a day"""
    await scene.put_videos(20)
    await scene.put_quota(100)
    await scene.plan(quotas=QUOTAS)
    scene.clock.at = RESET + timedelta(seconds=1)
    for seconds in (60, 120):
        lease = await scene.must_lease()
        await scene.one.returns.give_back(Return(lease.slot.id, lease.token, Reason.QUOTA_EXCEEDED))
        until = await scene.pool.fetchval("select closed_until from scheduler.quota")
        assert until - scene.clock.at == timedelta(seconds=seconds)
        assert await scene.lease() is None
        scene.clock.at = until


async def test_a_refusal_belongs_to_the_day_that_its_batch_was_paid_for(scene: Scene) -> None:
    """R000-09"""
    await scene.put_videos(20)
    await scene.put_quota(100)
    await scene.plan(quotas=QUOTAS)
    scene.clock.at = RESET - timedelta(seconds=20)
    lease = await scene.must_lease()
    scene.clock.at = RESET + timedelta(minutes=10)
    await scene.one.returns.give_back(Return(lease.slot.id, lease.token, Reason.QUOTA_EXCEEDED))
    assert await scene.pool.fetchval("select closed_until from scheduler.quota") is None
    assert await scene.lease() is not None


async def test_a_plea_for_patience_closes_the_quota_for_that_long(scene: Scene) -> None:
    await scene.put_videos(20)
    await scene.put_quota(100)
    await scene.plan(quotas=QUOTAS)
    for asked, seconds in ((7.0, 7), (0.0, 2), (0.0, 4)):
        lease = await scene.must_lease()
        await scene.one.returns.give_back(
            Return(lease.slot.id, lease.token, Reason.TOO_MANY_REQUESTS, "youtube_units", asked)
        )
        until = await scene.pool.fetchval("select closed_until from scheduler.quota")
        assert until - scene.clock.at == timedelta(seconds=seconds)
        assert await scene.lease() is None
        scene.clock.at = until
    lease = await scene.must_lease()
    with pytest.raises(InvalidRequest, match="youtube_units"):
        await scene.one.returns.give_back(
            Return(lease.slot.id, lease.token, Reason.TOO_MANY_REQUESTS, "another", 1.0)
        )


async def test_a_days_units_are_spent_to_the_last_over_a_change_of_the_pacific_clock(scene: Scene) -> None:
    """T000-20: the day of 23 hours, from 08:00 to 07:00 UTC"""
    await scene.put_videos(400)
    await scene.put_quota(21)
    job_id = await scene.put_job(quotas=QUOTAS, start_minutes=0, length_minutes=1, sla_hours=72)
    scene.clock.at = MONDAY + 6 * DAY + timedelta(hours=7)
    await scene.pool.execute(
        "update scheduler.sync_job set next_logical_at = $1, next_plan_at = $1", MONDAY + 6 * DAY
    )
    assert await scene.one.planner.plan(job_id)
    for hour in range(7, 34):
        scene.clock.at = MONDAY + 6 * DAY + timedelta(hours=hour, minutes=2)
        await scene.work_off()
    assert await scene.used() == {"2026-03-07": 20, "2026-03-08": 20, "2026-03-09": 20}


async def test_a_quota_keeps_its_zone_and_counts_on_when_its_limit_changes(scene: Scene) -> None:
    await scene.put_videos(40)
    await scene.put_quota(3)
    await scene.plan(quotas=QUOTAS, length_minutes=1)
    scene.clock.move(60)
    await scene.work_off()
    await scene.put_quota(5)
    await scene.work_off()
    assert await scene.used() == {"2026-03-02": 4}
    await scene.pool.execute("update scheduler.quota set zone = 'UTC'")
    with pytest.raises(InvalidRequest, match="zone"):
        await scene.put_quota(5)
