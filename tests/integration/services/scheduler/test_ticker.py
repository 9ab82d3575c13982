"""The loop that looks for what is due, wake-ups, and the clock that all of it goes by."""

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from libs.stores.postgres import PostgresSettings
from libs.stores.server_clock import ServerClock
from libs.telemetry.setup import OFF
from services.scheduler.app import build
from services.scheduler.leases import Ask
from services.scheduler.outcomes import ItemOutcome, Outcome
from services.scheduler.reports import Report
from services.scheduler.settings import SchedulerSettings
from services.scheduler.timekeeper import Timekeeper
from services.scheduler.wakeups import Bell, Listener, notify
from tally.contract.errors import NotReady, Unavailable
from tests.integration.services.scheduler.scheduling import JOB, Scene, TurnedClock, begin_key, open_scene
from tests.support.eventually import eventually
from tests.support.stack import OpenService, open_stack


async def test_an_idle_scheduler_with_a_waiting_worker_costs_at_most_two_statements_a_second(
    dsn: str,
) -> None:
    statements: list[str] = []

    async def count(connection: Any) -> None:
        connection.add_query_logger(lambda record: statements.append(record.query))

    async with asyncpg.create_pool(dsn, min_size=1, max_size=2, init=count) as pool:
        parts = build(pool, pool, Timekeeper(TurnedClock(), pool, 0.05), SchedulerSettings(), OFF)
        asks = [
            asyncio.create_task(parts.leases.lease(Ask(f"w{n}", 1, {"metadata": ()}), 20)) for n in range(4)
        ]
        async with pool.acquire() as connection:
            for _ in range(20):
                assert await parts.ticker.tick(connection) == pytest.approx(1.0)
        await eventually(lambda: _is(len(statements) >= 24))
        for ask in asks:
            ask.cancel()
    assert len(statements) <= 2 * 20


async def _is(truth: bool) -> bool:
    return truth


async def test_a_tick_plans_each_job_that_is_due_and_sleeps_until_the_next_moment(scene: Scene) -> None:
    await scene.put_videos(20)
    for number in range(3):
        await scene.put_job(name=f"job_{number}")
    await scene.put_job(name="later", start_minutes=600)
    scene.clock.at = await scene.pool.fetchval("select min(next_plan_at) from scheduler.sync_job")
    assert await scene.one.ticker.tick(scene.pool) == 0.0
    assert await scene.pool.fetchval("select count(*) from scheduler.sync_run") == 3
    scene.clock.move(3600 - 0.25)
    assert await scene.one.ticker.tick(scene.pool) == pytest.approx(0.25)


async def test_a_job_that_cannot_be_planned_holds_up_no_others(scene: Scene) -> None:
    await scene.put_videos(20)
    await scene.put_job(name="broken", start_minutes=0)
    await scene.put_job(name="sound")
    await scene.pool.execute("update scheduler.sync_job set definition = '{}' where name = 'broken'")
    scene.clock.at = await scene.pool.fetchval("select max(next_plan_at) from scheduler.sync_job")
    scene.clock.move(24 * 3600)
    await scene.one.ticker.tick(scene.pool)
    jobs = await scene.pool.fetch(
        "select name from scheduler.sync_run join scheduler.sync_job using (job_id)"
    )
    assert [row["name"] for row in jobs] == ["sound"]


async def test_a_notification_is_heard_by_other_processes(dsn: str) -> None:
    bell = Bell()
    listening = asyncio.create_task(Listener(dsn, PostgresSettings(), bell).run())
    connection = await asyncpg.connect(dsn)
    try:
        await eventually(lambda: _is(bell.count == 1))  # it listens
        await notify(connection)
        await eventually(lambda: _is(bell.count == 2))
        # Its connection is cut: it connects again, and rings for what it may have missed.
        await connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1",
            "tally scheduler wake-ups",
        )
        await eventually(lambda: _is(bell.count == 3))
        await notify(connection)
        await eventually(lambda: _is(bell.count == 4))
    finally:
        listening.cancel()
        await connection.close()


async def test_nothing_is_leased_or_paid_while_the_clock_is_uncertain(dsn: str) -> None:
    """R000-13"""
    async with open_scene(dsn) as scene:
        await scene.put_videos(10)
        await scene.put_quota(10)
        await scene.plan(quotas={"youtube_units": 1})

        class Vague(ServerClock):
            """Each of its readings may be off by so much."""

            vagueness = 0.06

            async def read(self, connection: Any) -> None:
                await super().read(connection)
                self.uncertainty_seconds = self.vagueness

            def now_us(self) -> int:
                return scene.clock.now_us()

        clock = Vague()
        await clock.read(scene.pool)
        parts = build(scene.pool, scene.pool, Timekeeper(clock, scene.pool, 0.05), SchedulerSettings(), OFF)
        ask = Ask("w", 1, {"metadata": ()})
        with pytest.raises(Unavailable, match="60 ms"):
            await parts.leases.lease(ask, 0)
        assert await scene.used() == {}
        clock.vagueness = 0.04
        assert await parts.leases.lease(ask, 0) is not None


async def test_a_scheduler_with_another_bin_space_than_the_schema_does_not_start(
    dsn: str, valkey_url: str, tmp_path: Any
) -> None:
    overrides = {"scheduler": SchedulerSettings(bin_space=1025)}
    with pytest.raises(NotReady, match="TALLY_SCHEDULER__BIN_SPACE is 1025"):
        async with open_stack(dsn, valkey_url, tmp_path, ["scheduler"], overrides):
            pass


async def test_a_job_is_planned_and_its_run_ended_by_schedulers_that_run(
    open_service: OpenService, dsn: str
) -> None:
    """With their real loops: what a tick does is done without anybody asking."""
    async with open_scene(dsn) as scene, open_service("scheduler"):
        now = await scene.pool.fetchval("select clock_timestamp()")
        scene.clock.at = now - timedelta(days=1)
        await scene.put_job(start_minutes=0)

        async def is_planned() -> bool:
            return bool(await scene.pool.fetchval("select count(*) from scheduler.sync_slot"))

        await eventually(is_planned)
        scene.clock.at = now + timedelta(days=1)
        while (lease := await scene.lease()) is not None:  # nobody is a member: the slots are done at once
            assert lease.batches

        async def is_done() -> bool:
            states = {row["state"] for row in await scene.pool.fetch("select state from scheduler.sync_run")}
            return states == {"done"}

        await eventually(is_done)


async def test_a_job_whose_retries_cannot_be_gathered_holds_up_no_other_and_ends_no_scheduler(
    scene: Scene,
) -> None:
    """As when a later version has planned a run whose definition this one cannot read."""
    ids = await scene.put_videos(2)
    run_id = await scene.plan()
    scene.to_the_end_of_the_window()
    lease = await scene.lease()
    assert lease is not None
    items = [ItemOutcome(each, Outcome.RETRY) for each in ids]
    await scene.one.reports.report(Report(lease.slot.id, lease.token, begin_key(lease, 0), items))
    await scene.pool.execute("update scheduler.sync_run set definition = '{}' where run_id = $1", run_id)
    other = await scene.put_job(name="other")
    scene.clock.move(86_400.0)
    with capture_logs() as logs:
        await scene.one.ticker.tick(scene.pool)
    assert await scene.pool.fetchval(
        "select exists (select from scheduler.sync_run where job_id = $1)", other
    )
    assert [log["job"] for log in logs if "gathered" in log["event"]] == [JOB.name]
