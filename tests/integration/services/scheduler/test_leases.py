"""Leases and reports, by the rules."""

import asyncio

import pytest

from services.scheduler.leases import Ask, Lease
from services.scheduler.outcomes import ItemOutcome, Outcome
from services.scheduler.reports import Report
from services.scheduler.returns import Reason, Return
from services.scheduler.slots import State
from tally.contract.errors import InvalidRequest, LeaseLost
from tests.integration.services.scheduler.scheduling import JOB, Scene, begin_key, ids_of
from tests.support.eventually import eventually

QUOTAS = {"youtube_units": 1}
LEASE_SECONDS = 30


async def test_a_slot_is_worked_off_batch_by_batch_and_its_run_ends_by_a_tick(scene: Scene) -> None:
    ids = await scene.put_videos(20)
    run_id = await scene.plan()
    assert await scene.run_state(run_id) == "planned"
    scene.to_the_end_of_the_window()
    for _ in range(2):
        lease = await scene.must_lease()
        assert await scene.run_state(run_id) == "running"
        first = await scene.report(lease)
        assert (first.state, first.recorded, first.permit is not None) == (State.LEASED, 5, True)
        second = await scene.report(lease, 1)
        assert (second.state, second.recorded, second.permit) == (State.DONE, 5, None)
    assert await scene.lease() is None
    assert await scene.run_state(run_id) == "running"
    await scene.one.ticker.tick(scene.pool)
    assert await scene.run_state(run_id) == "done"
    assert await scene.attempts(run_id) == ids
    (slot, _) = await scene.slots(run_id)
    assert (slot["synced"], slot["state"]) == (10, "done")


async def test_slots_are_leased_when_they_are_due_and_not_before(scene: Scene) -> None:
    """T000-18"""
    await scene.put_videos(20)
    await scene.plan()
    assert await scene.lease() is not None
    assert await scene.lease() is None
    scene.clock.move(JOB.length.total_seconds() / 2)
    assert await scene.lease("other") is not None


async def test_workers_that_ask_at_once_get_different_slots(pair: Scene) -> None:
    await pair.put_videos(100)
    await pair.plan()
    pair.to_the_end_of_the_window()
    leases = await asyncio.gather(*(pair.lease(f"w{n}", scheduler=n % 2) for n in range(12)))
    slots = [lease.slot.id for lease in leases if lease is not None]
    assert len(slots) == len(set(slots)) == 10


async def test_a_request_that_is_repeated_gets_the_same_lease_and_pays_nothing(pair: Scene) -> None:
    """R000-05"""
    await pair.put_videos(20)
    await pair.put_quota(100)
    await pair.plan(quotas=QUOTAS)
    pair.to_the_end_of_the_window()
    first = await pair.must_lease(number=7)
    again = await pair.must_lease(number=7, scheduler=1)
    other = await pair.must_lease(number=8)
    assert (again.slot.id, again.token, ids_of(again.batches)) == (
        first.slot.id,
        first.token,
        ids_of(first.batches),
    )
    assert again.is_repeated
    assert again.permit.paid_at is None
    assert other.slot.id != first.slot.id
    assert sum((await pair.used()).values()) == 2
    assert (await pair.report(again)).state is State.LEASED


async def test_a_repeated_lease_is_reported_as_it_was_answered_last(scene: Scene) -> None:
    """R000-05: members that came meanwhile are in the second answer, and may be reported"""
    await scene.put_videos(8, "v")
    run_id = await scene.plan()
    await scene.must_lease(number=1)
    await scene.put_videos(2, "w")
    again = await scene.must_lease(number=1)
    assert len(ids_of(again.batches)) == 10
    await scene.report(again)
    await scene.report(again, 1)
    assert len(await scene.attempts(run_id)) == 10


async def test_a_request_sent_twice_at_the_same_time_gets_one_lease(pair: Scene) -> None:
    """R000-05"""
    await pair.put_videos(50)
    await pair.put_quota(100)
    await pair.plan(quotas=QUOTAS)
    pair.to_the_end_of_the_window()
    answers = await asyncio.gather(
        *(pair.lease(number=1, scheduler=n % 2) for n in range(6)), return_exceptions=True
    )
    leases = [answer for answer in answers if not isinstance(answer, BaseException) and answer is not None]
    assert len({(lease.slot.id, lease.token) for lease in leases}) == 1
    assert sum((await pair.used()).values()) == 1


async def test_a_report_that_is_repeated_is_answered_as_recorded_and_pays_nothing(pair: Scene) -> None:
    """R000-03, R000-05"""
    await pair.put_videos(10)
    await pair.put_quota(100)
    run_id = await pair.plan(quotas=QUOTAS)
    lease = await pair.must_lease()
    first = await pair.report(lease)
    again = await pair.report(lease, scheduler=1)
    assert (first.state, first.recorded, first.is_repeated) == (State.LEASED, 5, False)
    assert (again.state, again.recorded, again.is_repeated) == (State.LEASED, 0, True)
    assert again.permit is not None
    assert again.permit.paid_at is None
    assert sum((await pair.used()).values()) == 2
    assert len(await pair.attempts(run_id)) == 5
    await pair.report(lease, 1)
    done = await pair.report(lease, 1, scheduler=1)
    assert (done.state, done.is_repeated) == (State.DONE, True)
    (slot,) = await pair.slots(run_id)
    assert slot["synced"] == 10


async def test_the_same_report_at_the_same_time_counts_once(pair: Scene) -> None:
    """R000-03"""
    await pair.put_videos(10)
    await pair.put_quota(100)
    run_id = await pair.plan(quotas=QUOTAS)
    lease = await pair.must_lease()
    answers = await asyncio.gather(*(pair.report(lease, scheduler=n % 2) for n in range(6)))
    assert sorted(answer.recorded for answer in answers) == [0, 0, 0, 0, 0, 5]
    assert sum((await pair.used()).values()) == 2
    assert len(await pair.attempts(run_id)) == 5


async def test_batches_are_reported_in_order(scene: Scene) -> None:
    """R000-03"""
    await scene.put_videos(10)
    run_id = await scene.plan()
    lease = await scene.must_lease()
    with pytest.raises(InvalidRequest, match="in order"):
        await scene.report(lease, 1)
    assert await scene.attempts(run_id) == []


async def test_a_report_names_each_item_of_its_batch_once_and_no_other(scene: Scene) -> None:
    await scene.put_videos(10)
    run_id = await scene.plan()
    lease = await scene.must_lease()
    ids = ids_of(lease.batches[:1])
    for wrong in (ids[:-1], [*ids, "unknown"], [*ids[:-1], "unknown"], [*ids, ids[0]], []):
        items = [ItemOutcome(item, Outcome.SYNCED) for item in wrong]
        with pytest.raises(InvalidRequest, match="item"):
            await scene.one.reports.report(Report(lease.slot.id, lease.token, begin_key(lease, 0), items))
    assert await scene.attempts(run_id) == []


async def test_an_expired_lease_goes_to_another_worker_and_the_late_report_counts_nothing(
    pair: Scene,
) -> None:
    """R000-02"""
    ids = await pair.put_videos(10)
    run_id = await pair.plan()
    frozen = await pair.must_lease("frozen")
    assert await pair.lease("other") is None
    pair.clock.move(LEASE_SECONDS)
    other = await pair.must_lease("other", scheduler=1)
    assert (other.slot.id, other.token) == (frozen.slot.id, frozen.token + 1)
    for call in (
        lambda: pair.report(frozen),
        lambda: pair.one.returns.extend(frozen.slot.id, frozen.token),
        lambda: pair.one.returns.give_back(Return(frozen.slot.id, frozen.token, Reason.NOT_SENT)),
    ):
        with pytest.raises(LeaseLost):
            await call()
    assert await pair.attempts(run_id) == []
    await pair.report(other)
    await pair.report(other, 1)
    assert await pair.attempts(run_id) == ids


async def test_a_late_report_counts_while_nobody_has_taken_the_slot_but_gets_no_next_batch(
    scene: Scene,
) -> None:
    """R000-02"""
    await scene.put_videos(10)
    await scene.put_quota(100)
    run_id = await scene.plan(quotas=QUOTAS)
    lease = await scene.must_lease()
    scene.clock.move(LEASE_SECONDS)
    with pytest.raises(LeaseLost):
        await scene.one.returns.extend(lease.slot.id, lease.token)
    answer = await scene.report(lease)
    assert (answer.state, answer.recorded, answer.permit) == (State.QUEUED, 5, None)
    assert sum((await scene.used()).values()) == 1
    rest = await scene.must_lease("other")
    assert ids_of(rest.batches) == ids_of(lease.batches[1:])
    assert len(await scene.attempts(run_id)) == 5


async def test_a_lease_is_extended_up_to_the_time_limit_of_its_batch(scene: Scene) -> None:
    await scene.put_videos(10)
    await scene.plan(batch_seconds=60)
    lease = await scene.must_lease()
    lasts = []
    for _ in range(3):
        scene.clock.move(20)
        lasts.append(await scene.one.returns.extend(lease.slot.id, lease.token))
    assert lasts == [30, 30, 10]  # 10 s to send it and 60 s of work, since it was paid
    scene.clock.move(10)
    with pytest.raises(LeaseLost):
        await scene.one.returns.extend(lease.slot.id, lease.token)


async def test_members_that_came_after_the_cut_are_read_in_pieces_of_the_slot_size(scene: Scene) -> None:
    """T000-36, and a slot is at most `slot_size` members at a time"""
    await scene.put_videos(10)
    run_id = await scene.plan()
    await scene.put_videos(90, "w")
    sizes = []
    while (lease := await scene.lease()) is not None:
        sizes.append(len(ids_of(lease.batches)))
        await scene.report(lease)
        answer = await scene.report(lease, 1)
        assert answer.state is (State.QUEUED if len(sizes) < 10 else State.DONE)
    assert sizes == [10] * 10
    assert len(await scene.attempts(run_id)) == 100


async def test_a_member_that_is_moved_between_slots_has_one_outcome_in_a_run(scene: Scene) -> None:
    """R000-04: re-binned from a slot that is done to one ahead, it is met twice"""
    ids = await scene.put_videos(20)
    run_id = await scene.plan()
    scene.to_the_end_of_the_window()
    first = await scene.must_lease()
    await scene.report(first)
    await scene.report(first, 1, Outcome.FAILED)
    moved = first.batches[1][0].key.youtube_id
    await scene.pool.execute(
        "update scheduler.youtube_video set sync_bin = 50399 where youtube_id = $1", moved
    )
    met, recorded = [], 0
    while (lease := await scene.lease()) is not None:
        met += ids_of(lease.batches)
        for batch in range(len(lease.batches)):
            recorded += (await scene.report(lease, batch, Outcome.UNCHANGED)).recorded
    assert moved in met
    assert len(met) == 11
    assert recorded == 10
    assert await scene.attempts(run_id) == ids
    rows = await scene.pool.fetch(
        "select outcome, (select last_outcome from scheduler.sync_state where item_id = $1) as last "
        "from scheduler.sync_attempt where item_id = $1",
        moved,
    )
    assert [(row["outcome"], row["last"]) for row in rows] == [(Outcome.FAILED, Outcome.FAILED)]


async def test_last_reports_at_once_leave_the_end_of_the_run_to_a_tick(pair: Scene) -> None:
    """R000-12"""
    await pair.put_videos(20)
    run_id = await pair.plan(batch=10)
    pair.to_the_end_of_the_window()
    one, other = await pair.must_lease("one"), await pair.must_lease("other")
    answers = await asyncio.gather(pair.report(one), pair.report(other, scheduler=1))
    assert [answer.state for answer in answers] == [State.DONE, State.DONE]
    await asyncio.gather(*(parts.ticker.tick(pair.pool) for parts in pair.schedulers))
    assert await pair.run_state(run_id) == "done"


async def test_two_leases_with_the_same_members_in_opposite_order_do_not_deadlock(pair: Scene) -> None:
    """R000-04, R000-06: members that are met in two slots at once, while both reports wait for a third transaction"""
    await pair.put_videos(100)
    run_id = await pair.plan(batch=50, slot_size=50)
    pair.to_the_end_of_the_window()
    one = await pair.must_lease("one")
    ids = sorted(ids_of(one.batches))
    await pair.pool.execute(
        "update scheduler.youtube_video set sync_bin = 50399 where youtube_id = any($1)", ids
    )
    own = await pair.must_lease("other")
    assert (await pair.report(own)).state is State.QUEUED
    other = await pair.must_lease("other")
    assert sorted(ids_of(other.batches)) == ids

    async def report(lease: Lease, order: list[str], scheduler: int) -> int:
        items = [ItemOutcome(item, Outcome.SYNCED) for item in order]
        told = Report(lease.slot.id, lease.token, begin_key(lease, 0), items)
        return (await pair.schedulers[scheduler].reports.report(told)).recorded

    async def both_wait() -> bool:
        waiting = (
            "select count(*) from pg_stat_activity "
            "where wait_event_type = 'Lock' and datname = current_database()"
        )
        return bool(await pair.pool.fetchval(waiting) == 2)

    async with pair.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(
            "insert into scheduler.sync_attempt (run_id, item_id, try, run_day, job_id, outcome, attempted_at) "
            "select run_id, $2, 0, run_day, job_id, 1, planned_at from scheduler.sync_run where run_id = $1",
            run_id,
            ids[25],
        )
        reports = asyncio.gather(report(one, ids, 0), report(other, ids[::-1], 1))
        await eventually(both_wait)
        await transaction.rollback()
    assert sorted(await reports) == [0, 50]
    assert len(await pair.attempts(run_id)) == 100


async def test_reports_of_the_same_members_in_opposite_order_do_not_deadlock(pair: Scene) -> None:
    """R000-06"""
    await pair.put_videos(50)
    leases = []
    for number in range(4):
        await pair.plan(name=f"job_{number}", batch=50, slot_size=50)
        leases.append(await pair.must_lease(f"w{number}"))
    answers = await asyncio.gather(
        *(pair.report(lease, scheduler=number % 2) for number, lease in enumerate(leases))
    )
    assert [answer.recorded for answer in answers] == [50] * 4


async def test_a_slot_given_back_goes_on_behind_what_was_reported(scene: Scene) -> None:
    await scene.put_videos(10)
    run_id = await scene.plan()
    lease = await scene.must_lease()
    answer = await scene.report(lease, is_last=True)
    assert (answer.state, answer.permit) == (State.QUEUED, None)
    rest = await scene.must_lease("other")
    assert ids_of(rest.batches) == ids_of(lease.batches[1:])
    returned = Return(rest.slot.id, rest.token, Reason.NOT_SENT)
    assert not await scene.one.returns.give_back(returned)
    assert await scene.one.returns.give_back(returned)
    with pytest.raises(LeaseLost):
        await scene.report(rest)
    assert len(await scene.attempts(run_id)) == 5


async def test_a_job_rests_after_calls_that_fail_as_a_whole_and_no_item_has_an_attempt(scene: Scene) -> None:
    """T000-16"""
    await scene.put_videos(20)
    run_id = await scene.plan()
    scene.to_the_end_of_the_window()
    rests = []
    for _ in range(11):
        lease = await scene.must_lease()
        await scene.one.returns.give_back(Return(lease.slot.id, lease.token, Reason.CALL_FAILED))
        assert await scene.lease() is None
        until = await scene.pool.fetchval("select rest_until from scheduler.sync_job")
        rests.append((until - scene.clock.at).total_seconds())
        scene.clock.at = until
    assert rests == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert await scene.attempts(run_id) == []
    await scene.report(await scene.must_lease())
    assert await scene.pool.fetchval("select rest_failures from scheduler.sync_job") == 0


async def test_calls_that_fail_together_make_a_job_rest_once(pair: Scene) -> None:
    await pair.put_videos(40)
    await pair.plan()
    pair.to_the_end_of_the_window()
    leases = [await pair.must_lease(f"w{number}") for number in range(4)]
    await asyncio.gather(
        *(
            pair.schedulers[number % 2].returns.give_back(
                Return(lease.slot.id, lease.token, Reason.CALL_FAILED)
            )
            for number, lease in enumerate(leases)
        )
    )
    assert await pair.pool.fetchval("select rest_failures from scheduler.sync_job") == 1


async def test_jobs_take_turns(scene: Scene) -> None:
    await scene.put_videos(50)
    for name in ("first", "second"):
        await scene.plan(name=name)
    scene.to_the_end_of_the_window()
    jobs = [(await scene.must_lease()).slot.job for _ in range(6)]
    assert jobs in (["first", "second"] * 3, ["second", "first"] * 3)


async def test_a_worker_gets_slots_of_its_handlers_only(scene: Scene) -> None:
    await scene.put_videos(10)
    await scene.plan()
    assert await scene.one.leases.lease(Ask("w", 1, {"claims": ()}), 0) is None
    assert await scene.lease() is not None


async def test_a_lease_carries_the_columns_that_the_handler_asks_for(scene: Scene) -> None:
    await scene.put_videos(3, is_oon=True)
    await scene.pool.execute("update scheduler.youtube_video set etag = 'x' where youtube_id = 'v000001'")
    await scene.plan()
    lease = await scene.lease(columns=("etag", "is_oon"))
    assert lease is not None
    columns = {member.key.youtube_id: dict(member.columns) for batch in lease.batches for member in batch}
    assert columns == {
        "v000000": {"is_oon": "true"},
        "v000001": {"is_oon": "true", "etag": "x"},
        "v000002": {"is_oon": "true"},
    }


async def test_what_was_found_is_stored_with_the_outcome_and_only_once(scene: Scene) -> None:
    await scene.put_videos(1)
    await scene.plan()
    lease = await scene.must_lease()
    found = ItemOutcome("v000000", Outcome.SYNCED, "", {"title": "A title", "view_count": 7})
    report = Report(lease.slot.id, lease.token, begin_key(lease, 0), [found])
    await scene.one.reports.report(report)
    row = await scene.pool.fetchrow("select * from scheduler.youtube_video")
    assert (row["title"], row["view_count"], row["etag"]) == ("A title", 7, None)
    assert row["video_synced_at"] == scene.clock.at
    state = await scene.pool.fetchrow("select * from scheduler.sync_state")
    assert (state["last_success_at"], state["failures"]) == (scene.clock.at, 0)


async def test_an_item_to_be_tried_again_has_its_next_try_in_its_state(scene: Scene) -> None:
    """000-32, T000-17"""
    await scene.put_videos(5)
    await scene.plan()
    lease = await scene.must_lease()
    items = [
        ItemOutcome(item, Outcome.RETRY, "busy", retry_after_seconds=60.0) for item in ids_of(lease.batches)
    ]
    await scene.one.reports.report(Report(lease.slot.id, lease.token, begin_key(lease, 0), items))
    for row in await scene.pool.fetch("select * from scheduler.sync_state"):
        assert (row["failures"], row["last_success_at"]) == (1, None)
        assert 60 <= (row["next_try_at"] - scene.clock.at).total_seconds() <= 300


async def test_a_worker_that_waits_is_woken_when_a_run_is_planned(scene: Scene) -> None:
    await scene.put_videos(10)
    job_id = await scene.put_job()
    waiting = asyncio.create_task(scene.one.leases.lease(Ask("w", 1, {"metadata": ()}), 10 * 86_400))
    await asyncio.sleep(0)
    scene.clock.at = await scene.pool.fetchval("select next_plan_at from scheduler.sync_job")
    await scene.one.ticker.tick(scene.pool)
    lease = await asyncio.wait_for(waiting, 10)
    assert lease is not None
    assert lease.slot.job_id == job_id
