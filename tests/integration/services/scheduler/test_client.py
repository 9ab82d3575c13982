"""The scheduler as users of the Python client call it, with both clients, on the whole stack."""

import asyncio
import inspect
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tally.client import InvalidRequest, NotFound, blocking
from tally.client._threads.derived import public_names
from tally.client.scheduler import Channel, Job, Page, Period, Put, Quota, RunState, Scheduler, Video, Window
from tests.support.stack import Stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

JOB = Job(
    name="client_job",
    rationale="a test",
    sla_hours=120,
    population="youtube_video",
    handler="metadata",
    cadence=Period(24, 7, (0, 4)),
    phase=2,
    where={"is_oon": True},
    window=Window(540, 480),
    batch=25,
    slot_size=50,
    batch_seconds=10,
    quotas={"client_units": 2},
    catchup_hours=24,
    rollout_percent=100,
)
QUOTA = Quota(
    name="client_units", units_per_day=100, zone="UTC", protected_percent=20, send_within_seconds=5.0
)


async def test_any_number_of_videos_is_put_in_requests_that_the_service_takes(shared: Stack) -> None:
    scheduler = shared.client.scheduler
    ids = [f"many{number:05}" for number in range(10_001)]
    assert await scheduler.put_videos(Video(each, title="t") for each in ids) == Put(10_001, 0, 0)

    async def again() -> AsyncIterator[Video]:
        for each in ids:
            yield Video(each, title="u" if each == ids[-1] else None)

    assert await scheduler.put_videos(again()) == Put(0, 1, 10_000)
    assert await scheduler.put_channels([Channel("UC_1"), Channel("UC_2", title="t")]) == Put(2, 0, 0)
    assert await scheduler.put_videos([]) == Put(0, 0, 0)
    assert sum(await scheduler.get_bin_distribution("youtube_channel", 7)) == 2


async def test_a_wrong_row_is_named_by_its_place_among_all_that_were_put(shared: Stack) -> None:
    rows = [Video(f"good{number}") for number in range(5_003)]
    with pytest.raises(InvalidRequest) as refused:
        await shared.client.scheduler.put_videos([*rows, Video("bad\0")])
    assert [each.field for each in refused.value.violations] == ["videos[5003].youtube_id"]
    # What came before was put; to put all of it again is harmless.
    assert await shared.client.scheduler.put_videos(rows) == Put(3, 0, 5_000)


async def test_definitions_come_back_as_they_were_put(shared: Stack) -> None:
    scheduler = shared.client.scheduler
    status = await scheduler.put_quota(QUOTA)
    assert (status.quota, status.used_units, status.protected_units) == (QUOTA, 0, 20)
    assert [each.quota for each in (await scheduler.list_quotas()).items] == [QUOTA]
    stored = await scheduler.put_job(JOB)
    assert (stored.job, stored.state, stored.largest_gap_hours) == (JOB, "active", 96.0)
    preset = replace(JOB, name="client_preset", cadence="twice_weekly", phase=0)
    assert (await scheduler.put_job(preset)).job == preset
    assert (await scheduler.get_job("client_job")).job == JOB
    page = await scheduler.list_jobs(page_size=1)
    rest = await scheduler.list_jobs(page_token=page.next_page_token)
    assert [each.job.name for each in (*page.items, *rest.items)] == ["client_job", "client_preset"]
    now = await scheduler.get_current_bin_numbers("twice_weekly")
    assert now.bin_max == 7
    shifted = await scheduler.get_current_bin_numbers(
        Period(24, 7, (0, 4)), phase=1, at_time=now.logical_time
    )
    assert set(shifted.bin_numbers) == {(each + 1) % 7 for each in now.bin_numbers}


async def test_a_run_is_planned_once_for_a_request_and_listed(shared: Stack) -> None:
    scheduler = shared.client.scheduler
    await scheduler.put_job(replace(JOB, name="client_run", quotas={}, where={"has_label_association": True}))
    request_id = "0b0c4d2e-0000-4000-8000-000000000001"
    run = await scheduler.run_job("client_run", request_id=request_id)
    assert (await scheduler.run_job("client_run", request_id=request_id)).id == run.id
    other = await scheduler.run_job("client_run", within_seconds=60)
    assert (other.repeat, other.bin_max) == (run.repeat + 1, 7)

    planned = await scheduler.list_runs("client_run", state=RunState.PLANNED)
    assert planned.items == (other, run)
    assert (run.member_count, run.slot_count, run.start_time, run.state.is_open) == (0, 1, None, True)
    assert (await scheduler.list_runs("client_run", state="done")).items == ()
    with pytest.raises(InvalidRequest, match="'over' is none of planned, running"):
        await scheduler.list_runs(state="over")
    with pytest.raises(NotFound):
        await scheduler.run_job("nowhere")


async def test_dead_letters_are_listed_tried_again_and_dropped(shared: Stack) -> None:
    scheduler = shared.client.scheduler
    await scheduler.put_job(replace(JOB, name="client_dead", quotas={}))
    assert await scheduler.list_dead_letters("client_dead") == Page((), "")
    assert await scheduler.drop_dead_letters("client_dead", ["nobody"]) == 0
    with pytest.raises(NotFound, match="none of these items is a dead letter of client_dead"):
        await scheduler.retry_dead_letters("client_dead", ["nobody"])
    with pytest.raises(NotFound, match="there is no job 'nowhere'"):
        await scheduler.list_dead_letters("nowhere")


async def test_a_definition_that_the_protocol_cannot_express_is_refused_here(shared: Stack) -> None:
    with pytest.raises(InvalidRequest, match="overlap: 'never' is none of queue"):
        await shared.client.scheduler.put_job(replace(JOB, overlap="never"))


async def test_the_blocking_client_has_every_method_and_waits_for_it(shared: Stack) -> None:
    names = {
        name
        for name, method in vars(Scheduler).items()
        if inspect.iscoroutinefunction(method) and not name.startswith("_")
    }
    assert {"put_videos", "run_job", "list_workers"} <= names

    def use() -> Put:
        with blocking.Client(shared.address) as client:
            assert set(public_names(type(client.scheduler))) == names
            assert client.scheduler.run_job.__doc__ == Scheduler.run_job.__doc__
            return client.scheduler.put_videos(Video(f"blocking{number}") for number in range(3))

    assert await asyncio.to_thread(use) == Put(3, 0, 0)
