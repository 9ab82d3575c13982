"""What the futures of events are told when a request fails, and who goes again under a new id."""

import asyncio

import pytest

from tally.client import (
    Batch,
    Batching,
    InvalidRequest,
    NotSent,
    OutcomeUnknown,
    OutOfRange,
    Receipt,
    RequestIdReused,
    Violation,
)
from tests.support.virtual_time import in_virtual_time
from tests.unit.tally.batching import open_case
from tests.unit.tally.transport import fail, invalid, out_of_range, overloaded, unanswered


@in_virtual_time
async def test_an_overloaded_service_that_is_given_up_leaves_the_outcome_unknown() -> None:
    async with open_case(Batching(give_up_after_s=10.0)) as case:
        case.transport.turns.extend([fail(overloaded(3.0))] * 1000)
        (future,) = case.add("a")
        with pytest.raises(OutcomeUnknown) as raised:
            await future
        assert raised.value.reason == "OVERLOADED"
        assert raised.value.batches


@in_virtual_time
async def test_only_the_events_that_are_named_fail_and_the_others_go_under_a_new_id() -> None:
    async with open_case() as case:
        case.transport.turns.append(fail(invalid("columns.video_ids[1]", "columns.value[3]")))
        futures = case.add("a", "bad", "c", "d", "bad", "e")
        with pytest.raises(InvalidRequest, match=r"columns.video_ids\[1\]: is bad"):
            await futures[1]
        first, second = case.transport.sent
        assert second.videos == ["a", "c", "e"]
        assert second.request_id != first.request_id
        await asyncio.wait(futures)
        for at, future in enumerate(futures):
            assert (future.exception() is None) == (at not in (1, 3, 4))
        assert futures[0].result().request_id == second.request_id
        progress = case.batcher.progress
        assert (progress.counted_events, progress.refused_events) == (3, 3)


@in_virtual_time
async def test_an_event_whose_time_is_out_of_range_fails_alone() -> None:
    async with open_case() as case:
        case.transport.turns.append(fail(out_of_range(1_000, ["columns.event_time_us[0]"])))
        early, good = case.add("early", "good")
        with pytest.raises(OutOfRange) as raised:
            await early
        assert raised.value.server_time_us == 1_000
        assert (await good).accepted_count == 1


@pytest.mark.exact
@in_virtual_time
async def test_events_are_not_sent_again_under_a_new_id_when_an_attempt_had_no_answer() -> None:
    async with open_case() as case:
        case.transport.turns.extend([fail(unanswered()), fail(invalid("columns.value[0]"))])
        futures = case.add("a", "b")
        await asyncio.wait(futures)
        assert all(isinstance(future.exception(), OutcomeUnknown) for future in futures)
        assert len({sent.payload for sent in case.transport.sent}) == 1


@pytest.mark.exact
@in_virtual_time
async def test_events_whose_id_was_used_before_never_go_under_another() -> None:
    """A part of them may have been counted, whatever else the refusal names."""
    violations = [Violation("columns.value[0]", "is bad")]
    async with open_case() as case:
        reused = RequestIdReused(violations)
        case.transport.turns.append(fail(reused))
        futures = case.add("a", "b")
        await asyncio.wait(futures)
        assert all(isinstance(future.exception(), OutcomeUnknown) for future in futures)
        assert len(case.transport.sent) == 1
        assert (case.batcher.progress.unknown_events, case.batcher.progress.refused_events) == (2, 0)


@in_virtual_time
async def test_a_refusal_that_names_no_event_is_everybodys() -> None:
    async with open_case() as case:
        case.transport.turns.append(fail(invalid("columns")))
        futures = case.add("a", "b")
        await asyncio.wait(futures)
        errors = [future.exception() for future in futures]
        assert all(isinstance(error, InvalidRequest) for error in errors)
        assert errors[0] is not errors[1]  # or their tracebacks would grow into each other


@in_virtual_time
async def test_whatever_goes_wrong_nobody_waits_for_ever() -> None:
    async def break_down(_batch: Batch) -> Receipt:
        raise ZeroDivisionError

    async with open_case() as case:
        case.transport.turns.append(break_down)
        (future,) = case.add("a")
        with pytest.raises(OutcomeUnknown, match="ZeroDivisionError"):
            await future


@in_virtual_time
async def test_a_request_whose_task_is_cancelled_before_it_begins_has_its_end_and_leaves_its_place() -> None:
    async with open_case(Batching(max_in_flight=1)) as case:
        before = asyncio.all_tasks()
        (future,) = case.add("a")
        await asyncio.sleep(0)
        (sending,) = asyncio.all_tasks() - before
        sending.cancel()
        async with asyncio.timeout(10):
            with pytest.raises(NotSent, match="was cancelled"):
                await case.batcher.flush()
            assert isinstance(future.exception(), NotSent)
            assert (await case.add("b")[0]).accepted_count == 1
        assert case.transport.videos == ["b"]
