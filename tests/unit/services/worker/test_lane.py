"""A lane of a worker: what it sends to the scheduler, and when it must not call."""

import asyncio
import itertools
import threading
from collections.abc import Sequence
from typing import Any, cast

import pytest

from libs.telemetry.setup import OFF
from services.worker.handlers.handler import CallFailed, Item, Outcome, QuotaExceeded, Result, TooManyRequests
from services.worker.lane import Lane
from services.worker.measuring import Measuring
from services.worker.scheduler import Scheduler
from services.worker.threads import Threads
from tally.contract.errors import LeaseLost
from tally.scheduler.v1 import work_pb2 as pb
from tests.support.clock import Clock
from tests.support.eventually import eventually
from tests.support.virtual_time import in_virtual_time

BATCHES = ("a", "b"), ("c",)


class Script:
    """A scheduler with one slot, which notes what it is asked."""

    def __init__(self, *, send_within_seconds: float = 10.0, wait_seconds: float = 0.0) -> None:
        self.asked: list[Any] = []
        self.has_slot = True
        self.is_lost = False
        self._permit = pb.Permit(wait_seconds=wait_seconds, send_within_seconds=send_within_seconds)

    async def lease_slot(self, request: pb.LeaseSlotRequest) -> pb.LeaseSlotResponse:
        if not self.has_slot:
            await asyncio.sleep(request.wait_seconds)
            return pb.LeaseSlotResponse()
        self.has_slot = False
        batches = [
            pb.Batch(begin_key=ids[0], items=[pb.Item(id=each, columns={"etag": "1"}) for each in ids])
            for ids in BATCHES
        ]
        return pb.LeaseSlotResponse(
            lease=pb.Lease(
                slot="slot",
                token=7,
                handler="echo",
                batches=batches,
                permit=self._permit,
                lease_seconds=0.2,
                batch_seconds=5.0,
            )
        )

    async def report_items(self, request: pb.ReportItemsRequest) -> pb.ReportItemsResponse:
        self._note(request)
        is_done = request.begin_key == BATCHES[-1][0]
        state = pb.SLOT_STATE_DONE if is_done else pb.SLOT_STATE_LEASED
        state = pb.SLOT_STATE_QUEUED if request.is_last and not is_done else state
        return pb.ReportItemsResponse(state=state, permit=self._permit, lease_seconds=0.2)

    async def extend_lease(self, request: pb.ExtendLeaseRequest) -> pb.ExtendLeaseResponse:
        self._note(request)
        return pb.ExtendLeaseResponse(lease_seconds=0.2)

    async def complete_slot(self, request: pb.CompleteSlotRequest) -> pb.CompleteSlotResponse:
        self._note(request)
        return pb.CompleteSlotResponse()

    def _note(self, request: Any) -> None:
        if self.is_lost:
            raise LeaseLost("another worker has it")
        self.asked.append(request)


class Echo:
    """A handler that does what a test wants."""

    name = "echo"
    columns = ("etag",)

    def __init__(self, *problems: Exception, until: threading.Event | None = None) -> None:
        self.handled: list[list[str]] = []
        self._problems = list(problems)
        self._until = until

    def handle(self, items: Sequence[Item]) -> Sequence[Result]:
        self.handled.append([item.id for item in items])
        if self._until is not None:
            self._until.wait()
        if self._problems:
            raise self._problems.pop(0)
        return [Result(item.id, Outcome.SYNCED, item.columns["etag"]) for item in items]

    def close(self) -> None:
        return


def make_lane(script: Script, handler: Echo, clock: Clock) -> Lane:
    scheduler = cast("Scheduler", script)
    return Lane(
        "me",
        scheduler,
        {"echo": handler},
        Threads(),
        clock,
        0.01,
        itertools.count(1).__next__,
        Measuring(OFF, 1),
    )


async def run_slot(script: Script, handler: Echo, clock: Clock | None = None) -> list[Any]:
    """What the scheduler is asked about its slot."""
    lane = make_lane(script, handler, clock or Clock())
    running = asyncio.create_task(lane.run())

    async def has_ended() -> bool:
        return is_over(script)

    await eventually(has_ended)
    lane.stop()
    await running
    return script.asked


def is_over(script: Script) -> bool:
    if script.is_lost or not script.asked:
        return script.is_lost
    last = script.asked[-1]
    return isinstance(last, pb.CompleteSlotRequest) or getattr(last, "begin_key", "") == BATCHES[-1][0]


async def test_the_batches_of_a_slot_are_reported_in_order() -> None:
    handler = Echo()
    first, second = await run_slot(Script(), handler)
    assert handler.handled == [["a", "b"], ["c"]]
    assert (first.slot, first.token, first.begin_key, second.begin_key) == ("slot", 7, "a", "c")
    assert [(each.id, each.outcome, each.detail) for each in first.items] == [
        ("a", pb.OUTCOME_SYNCED, "1"),
        ("b", pb.OUTCOME_SYNCED, "1"),
    ]


async def test_no_call_is_made_on_a_permit_that_is_too_old() -> None:  # R000-08
    clock, handler = Clock(), Echo()
    script = Script(send_within_seconds=10.0, wait_seconds=3.0)
    lease = script.lease_slot

    async def answer_late(request: pb.LeaseSlotRequest) -> pb.LeaseSlotResponse:
        clock.seconds += 13.1
        return await lease(request)

    script.lease_slot = answer_late  # type: ignore[method-assign]
    (given_back,) = await run_slot(script, handler, clock)
    assert given_back.reason == pb.GIVE_BACK_REASON_NOT_SENT
    assert handler.handled == []


async def test_a_permit_counts_from_the_first_question_and_the_wait_that_was_answered() -> None:
    clock, handler = Clock(), Echo()
    script = Script(send_within_seconds=10.0, wait_seconds=3.0)
    lease = script.lease_slot

    async def answer_late(request: pb.LeaseSlotRequest) -> pb.LeaseSlotResponse:
        clock.seconds += 12.9
        return await lease(request)

    script.lease_slot = answer_late  # type: ignore[method-assign]
    await run_slot(script, handler, clock)
    assert handler.handled == [["a", "b"], ["c"]]


@pytest.mark.parametrize(
    ("problem", "reason", "retry_after"),
    [
        (CallFailed("HTTP 503"), pb.GIVE_BACK_REASON_CALL_FAILED, 0.0),
        (QuotaExceeded("HTTP 403"), pb.GIVE_BACK_REASON_QUOTA_EXCEEDED, 0.0),
        (TooManyRequests("HTTP 429", 30.0), pb.GIVE_BACK_REASON_TOO_MANY_REQUESTS, 30.0),
        (ZeroDivisionError("the handler's mistake"), pb.GIVE_BACK_REASON_CALL_FAILED, 0.0),
    ],
)
async def test_a_call_that_fails_whole_gives_the_slot_back(
    problem: Exception, reason: pb.GiveBackReason, retry_after: float
) -> None:
    handler = Echo(problem)
    (given_back,) = await run_slot(Script(), handler)
    assert (given_back.reason, given_back.retry_after_seconds) == (reason, retry_after)
    assert "mistake" not in given_back.detail  # its text may hold a secret
    assert len(handler.handled) == 1


async def test_a_lease_is_extended_while_its_batch_is_at_work() -> None:
    released = threading.Event()
    script, handler = Script(), Echo(until=released)
    running = asyncio.create_task(run_slot(script, handler))

    async def is_extended_twice() -> bool:
        return len(script.asked) >= 2

    await eventually(is_extended_twice)
    released.set()
    asked = await running
    assert {type(each) for each in asked[:2]} == {pb.ExtendLeaseRequest}
    assert handler.handled == [["a", "b"], ["c"]]


async def test_a_lost_lease_is_dropped_without_another_word() -> None:
    released = threading.Event()
    script, handler = Script(), Echo(until=released)
    script.is_lost = True
    await run_slot(script, handler)
    released.set()
    assert script.asked == []


async def test_a_worker_that_stops_reports_its_batch_and_takes_no_other() -> None:
    released = threading.Event()
    script, handler = Script(), Echo(until=released)
    lane = make_lane(script, handler, Clock())
    running = asyncio.create_task(lane.run())

    async def is_at_work() -> bool:
        return bool(handler.handled)

    await eventually(is_at_work)
    lane.stop()
    released.set()
    await running
    reports = [each for each in script.asked if isinstance(each, pb.ReportItemsRequest)]
    assert [(each.begin_key, each.is_last) for each in reports] == [("a", True)]
    assert handler.handled == [["a", "b"]]


@in_virtual_time
async def test_a_lane_that_stops_does_not_wait_for_a_scheduler_that_is_away() -> None:
    class Away(Script):
        async def lease_slot(self, request: pb.LeaseSlotRequest) -> pb.LeaseSlotResponse:
            self.asked.append(request)
            await asyncio.Event().wait()
            raise AssertionError("unreachable")

    script = Away()
    lane = make_lane(script, Echo(), Clock())
    running = asyncio.create_task(lane.run())
    await asyncio.sleep(1)
    lane.stop()
    await asyncio.wait_for(running, 5)
    assert [request.request_number for request in script.asked] == [1, 1]
