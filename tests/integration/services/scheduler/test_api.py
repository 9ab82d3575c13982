"""The three services as any client calls them: generated stubs, on the whole stack with its real clock."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import pytest
import pytest_asyncio

from tally.scheduler.v1 import job_pb2 as jobs
from tally.scheduler.v1 import job_pb2_grpc, population_pb2_grpc, work_pb2_grpc
from tally.scheduler.v1 import population_pb2 as populations
from tally.scheduler.v1 import work_pb2 as work
from tests.integration.services.api import TIMEOUT_S, Api, refused
from tests.support.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

# the generated stubs have no types without a plugin
_Populations: Any = population_pb2_grpc.PopulationServiceStub
_Jobs: Any = job_pb2_grpc.JobServiceStub
_Work: Any = work_pb2_grpc.WorkServiceStub


class Calls:
    """Calls of a worker and of an operator."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.populations = _Populations(channel)
        self.jobs = _Jobs(channel)
        self.work = _Work(channel)

    async def put_videos(self, ids: Sequence[str], size: int = 400, **columns: Any) -> Any:
        async def stream() -> AsyncIterator[populations.PutVideosRequest]:
            for start in range(0, len(ids), size):
                yield populations.PutVideosRequest(
                    videos=[
                        populations.Video(youtube_id=each, **columns) for each in ids[start : start + size]
                    ]
                )

        return await self.populations.PutVideos(stream(), timeout=TIMEOUT_S)

    async def put_job(self, name: str, **changes: Any) -> Any:
        request = jobs.PutJobRequest(job=job(name, **changes))
        return await self.jobs.PutJob(request, timeout=TIMEOUT_S)

    async def run(self, name: str, request_id: str | None = None) -> Any:
        request = jobs.RunJobRequest(name=name, request_id=request_id or str(uuid.uuid4()))
        return (await self.jobs.RunJob(request, timeout=TIMEOUT_S)).run

    async def lease(self, number: int, wait: float = 10.0, worker: str = "w") -> Any:
        request = work.LeaseSlotRequest(
            worker=worker,
            request_number=number,
            handlers=[work.Handler(name="metadata", columns=["title"])],
            wait_seconds=wait,
        )
        return await self.work.LeaseSlot(request, timeout=TIMEOUT_S)


def job(name: str, **changes: Any) -> jobs.Job:
    fields: dict[str, Any] = {
        "name": name,
        "rationale": "a test",
        "sla_hours": 48,
        "population": "youtube_video",
        "handler": "metadata",
        "cadence": jobs.Cadence(preset="daily"),
        **changes,
    }
    return jobs.Job(**fields)


@pytest_asyncio.fixture(loop_scope="module")
async def calls(api: Api) -> Calls:
    return Calls(api.channel)


async def test_a_worker_in_any_language_works_a_run_off(calls: Calls) -> None:
    ids = [f"run{number:04}" for number in range(250)]
    put = await calls.put_videos(ids, title="before")
    assert (put.inserted_count, put.updated_count, put.unchanged_count) == (250, 0, 0)
    quota = jobs.Quota(name="units", units_per_day=jobs.UnitsPerDay(limit=100, zone="America/Los_Angeles"))
    assert (await calls.jobs.PutQuota(jobs.PutQuotaRequest(quota=quota), timeout=TIMEOUT_S)).created
    stored = await calls.put_job("worked_off", quotas={"units": 2})
    assert stored.created
    assert (stored.status.job.batch, stored.status.job.slot_size) == (50, 100)
    assert "250 members" in stored.status.warnings[0]
    request_id = str(uuid.uuid4())
    run = await calls.run("worked_off", request_id)
    assert (await calls.run("worked_off", request_id)).id == run.id
    assert (run.state, run.member_count, run.slot_count) == (jobs.RUN_STATE_PLANNED, 250, 3)
    seen = []
    for number in range(1, 4):
        lease = (await calls.lease(number)).lease
        assert (lease.job, lease.run_id, lease.batch_seconds) == ("worked_off", run.id, 20)
        assert 0 <= lease.permit.wait_seconds < 10
        assert lease.permit.send_within_seconds == 10
        state = work.SLOT_STATE_LEASED
        for batch in lease.batches:
            assert state == work.SLOT_STATE_LEASED
            assert all(item.columns["title"] == "before" for item in batch.items)
            seen += [item.id for item in batch.items]
            outcomes = [
                work.ItemOutcome(
                    id=item.id,
                    outcome=work.OUTCOME_SYNCED,
                    video_metadata=work.VideoMetadata(title="after", view_count=2**60),
                )
                for item in batch.items
            ]
            report = work.ReportItemsRequest(
                slot=lease.slot, token=lease.token, begin_key=batch.begin_key, items=outcomes
            )
            answer = await calls.work.ReportItems(report, timeout=TIMEOUT_S)
            assert answer.recorded_count == len(batch.items)
            state = answer.state
        assert state == work.SLOT_STATE_DONE
    assert sorted(seen) == ids

    async def is_done() -> bool:
        request = jobs.ListRunsRequest(job="worked_off")
        (listed,) = (await calls.jobs.ListRuns(request, timeout=TIMEOUT_S)).runs
        assert listed.outcomes.synced == 250
        return bool(listed.state == jobs.RUN_STATE_DONE)

    await eventually(is_done)
    (status,) = (await calls.jobs.ListQuotas(jobs.ListQuotasRequest(), timeout=TIMEOUT_S)).quotas
    assert status.used_units == 10  # five batches of 50, and two units each
    workers = (await calls.jobs.ListWorkers(jobs.ListWorkersRequest(), timeout=TIMEOUT_S)).workers
    (worker,) = (each for each in workers if each.name == "w")  # that of `all` waits for repositories
    assert (worker.name, list(worker.handlers), worker.lease_count) == ("w", ["metadata"], 0)


async def test_a_worker_that_waits_gets_the_slots_of_a_run_as_soon_as_it_is_planned(calls: Calls) -> None:
    await calls.put_videos(["waited"])
    await calls.put_job("waited_for")
    waiting = asyncio.create_task(calls.lease(100, worker="waiting"))

    async def is_waiting() -> bool:
        listed = await calls.jobs.ListWorkers(jobs.ListWorkersRequest(), timeout=TIMEOUT_S)
        return any(worker.name == "waiting" for worker in listed.workers)

    await eventually(is_waiting)
    run = await calls.run("waited_for")
    lease = (await waiting).lease
    assert lease.run_id == run.id
    again = (await calls.lease(100, worker="waiting")).lease
    # R000-08: a permit counts from when the worker first asked, plus this wait; nobody knows it any more.
    assert lease.permit.wait_seconds > 0 == again.permit.wait_seconds
    assert (again.slot, again.token, again.repeated_answer) == (lease.slot, lease.token, True)
    back = work.CompleteSlotRequest(slot=lease.slot, token=lease.token, reason=work.GIVE_BACK_REASON_NOT_SENT)
    assert not (await calls.work.CompleteSlot(back, timeout=TIMEOUT_S)).repeated_answer
    assert (await calls.work.CompleteSlot(back, timeout=TIMEOUT_S)).repeated_answer
    told = await refused(
        calls.work.ExtendLease(work.ExtendLeaseRequest(slot=lease.slot, token=lease.token), timeout=TIMEOUT_S)
    )
    assert (told.code, told.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "LEASE_LOST")


async def test_items_that_failed_are_listed_tried_again_and_dropped(calls: Calls) -> None:
    await calls.put_videos(["dead-1", "dead-2", "dead-3"], has_label_association=True)
    await calls.put_job("burying", where={"has_label_association": True})

    async def work_off(worker: str, outcome: Any) -> list[str]:
        number = 1
        while (lease := (await calls.lease(number, worker=worker)).lease).job != "burying":
            number += 1  # a slot that another test left
        (batch,) = lease.batches
        items = [work.ItemOutcome(id=item.id, outcome=outcome, detail="why") for item in batch.items]
        report = work.ReportItemsRequest(
            slot=lease.slot, token=lease.token, begin_key=batch.begin_key, items=items
        )
        assert (await calls.work.ReportItems(report, timeout=TIMEOUT_S)).recorded_count == len(items)
        return sorted(item.id for item in items)

    async def list_letters(**page: Any) -> Any:
        request = jobs.ListDeadLettersRequest(job="burying", **page)
        return await calls.jobs.ListDeadLetters(request, timeout=TIMEOUT_S)

    run = await calls.run("burying")
    assert await work_off("burying", work.OUTCOME_FAILED) == ["dead-1", "dead-2", "dead-3"]
    first = await list_letters(page_size=2)
    rest = await list_letters(page_token=first.next_page_token)
    found = [*first.dead_letters, *rest.dead_letters]
    assert [letter.item_id for letter in found] == ["dead-1", "dead-2", "dead-3"]
    assert {(each.run_id, each.try_count, each.failed_for_good, each.detail) for each in found} == {
        (run.id, 1, True, "why")
    }
    retrying = jobs.RetryDeadLettersRequest(
        job="burying", request_id=str(uuid.uuid4()), item_ids=["dead-2", "dead-2", "nobody"]
    )
    planned = (await calls.jobs.RetryDeadLetters(retrying, timeout=TIMEOUT_S)).run
    assert (planned.member_count, planned.slot_count, planned.id > run.id) == (1, 1, True)
    assert (await calls.jobs.RetryDeadLetters(retrying, timeout=TIMEOUT_S)).run.id == planned.id
    assert await work_off("again", work.OUTCOME_SYNCED) == ["dead-2"]
    dropping = jobs.DropDeadLettersRequest(job="burying", item_ids=["dead-1", "dead-2"])
    assert (await calls.jobs.DropDeadLetters(dropping, timeout=TIMEOUT_S)).dropped_count == 1
    assert [letter.item_id for letter in (await list_letters()).dead_letters] == ["dead-3"]
    for wrong, field in (
        (jobs.DropDeadLettersRequest(job="burying"), "item_ids"),
        (jobs.DropDeadLettersRequest(job="burying", item_ids=["a\0"]), "item_ids[0]"),
    ):
        told = await refused(calls.jobs.DropDeadLetters(wrong, timeout=TIMEOUT_S))
        assert (told.code, told.fields[0]) == (grpc.StatusCode.INVALID_ARGUMENT, field)


async def test_wrong_requests_are_told_by_field(calls: Calls) -> None:
    for request, field in (
        (calls.put_job("Wrong name"), "job.name"),
        (calls.put_job("x", rationale=" "), "job.rationale"),
        (calls.put_job("x", sla_hours=47), "job.sla_hours"),
        (calls.put_job("x", population="bsky"), "job.population"),
        (calls.put_job("x", quotas={"nowhere": 1}), "job.quotas"),
        (calls.lease(1, wait=21), "wait_seconds"),
        (calls.put_videos(["a\0b"]), "videos[0].youtube_id"),
        (calls.run("x", "no uuid"), "request_id"),
    ):
        told = await refused(request)
        assert (told.code, told.fields[0]) == (grpc.StatusCode.INVALID_ARGUMENT, field)
    for request in (
        calls.run("nowhere"),
        calls.jobs.GetJob(jobs.GetJobRequest(name="nowhere"), timeout=TIMEOUT_S),
    ):
        assert (await refused(request)).code is grpc.StatusCode.NOT_FOUND


async def test_a_selection_is_never_everybody_by_mistake(calls: Calls) -> None:
    """T000-06, 000-19, 000-22"""
    await calls.put_videos([f"oon{number:02}" for number in range(60)], is_oon=True)

    async def listed(**selection: Any) -> list[str]:
        ids: list[str] = []
        token = ""
        while True:
            request = populations.ListOonVideoIdsRequest(
                selection=populations.Selection(**selection), page_size=25, page_token=token
            )
            page = await calls.populations.ListOonVideoIds(request, timeout=TIMEOUT_S)
            ids += page.youtube_ids
            token = page.next_page_token
            if not token:
                return ids

    for bins, field in (
        (populations.Bins(bin_numbers=[1]), "selection.bins.bin_max"),
        (populations.Bins(bin_numbers=[7], bin_max=7), "selection.bins.bin_numbers"),
        (populations.Bins(bin_numbers=[-1], bin_max=7), "selection.bins.bin_numbers"),
        (populations.Bins(bin_numbers=[0], bin_max=-7), "selection.bins.bin_max"),
    ):
        assert (await refused(listed(bins=bins))).fields == [field]
    assert (await refused(listed())).fields == ["selection"]
    told = await refused(listed(all=populations.All()))
    assert told.fields == ["selection.all.confirm_members"]
    assert await listed(bins=populations.Bins(bin_max=7)) == []
    everybody = await listed(all=populations.All(confirm_members=60))
    assert len(everybody) == len(set(everybody)) == 60
    parts = [await listed(bins=populations.Bins(bin_numbers=[number], bin_max=7)) for number in range(7)]
    assert sorted(each for part in parts for each in part) == sorted(everybody)


async def test_the_bins_of_a_cadence_are_told(calls: Calls) -> None:
    """000-66"""
    request = jobs.GetCurrentBinNumbersRequest(cadence=jobs.Cadence(preset="twice_weekly"))
    request.at_time.FromJsonString("2026-03-03T23:59:59Z")
    answer = await calls.jobs.GetCurrentBinNumbers(request, timeout=TIMEOUT_S)
    assert (list(answer.bin_numbers), answer.bin_max) == ([1, 5], 7)
    assert answer.logical_time.ToJsonString() == "2026-03-03T00:00:00Z"


async def test_members_are_counted_by_bin(calls: Calls, api: Api) -> None:
    """000-55"""
    request = populations.GetBinDistributionRequest(population="youtube_video", bin_max=7)
    counts = (await calls.populations.GetBinDistribution(request, timeout=TIMEOUT_S)).member_counts
    rows = await api.database.fetch(
        "select sync_bin % 7 as number, count(*) as n from scheduler.youtube_video group by number"
    )
    assert {number: count for number, count in enumerate(counts) if count} == {
        row["number"]: row["n"] for row in rows
    }


async def test_lists_have_pages(calls: Calls) -> None:
    for number in range(5):
        await calls.put_job(f"paged_{number}")
    names, token = [], ""
    while True:
        page = await calls.jobs.ListJobs(
            jobs.ListJobsRequest(page_size=2, page_token=token), timeout=TIMEOUT_S
        )
        names += [status.job.name for status in page.jobs]
        token = page.next_page_token
        if not token:
            break
    assert names == sorted(set(names))
    assert {f"paged_{number}" for number in range(5)} <= set(names)
    wrong = jobs.ListJobsRequest()
    wrong.page_token = "no token"  # noqa: S105 - it is no secret
    told = await refused(calls.jobs.ListJobs(wrong, timeout=TIMEOUT_S))
    assert told.fields == ["page_token"]
