"""When events leave, and what their futures are told. Time is virtual; the transport does as the test says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tally.client import (
    Batch,
    Batching,
    BufferFull,
    ClientUnusable,
    InvalidRequest,
    NotSent,
    OutcomeUnknown,
    OutOfRange,
    Receipt,
    RequestIdReused,
    TallyError,
    Violation,
)
from tally.client.batcher import Batcher
from tally.client.buffer import Awaited
from tally.client.request_id import RequestIds
from tally.client.sending import Sender
from tests.support.virtual_time import in_virtual_time
from tests.unit.tally.transports import (
    Transport,
    fail,
    invalid,
    never,
    out_of_range,
    overloaded,
    receipt_of,
    unanswered,
)

Future: TypeAlias = "asyncio.Future[Receipt]"


@dataclass
class Case:
    """A batcher and its transport."""

    batcher: Batcher[Future]
    transport: Transport

    def add(self, *videos: str) -> list[Future]:
        return [self.add_one(video) for video in videos]

    def add_one(self, video: str, awaited: Awaited | None = None) -> Future:
        future: Future = asyncio.get_running_loop().create_future()
        self.batcher.add(video, "view", None, None, "", future, awaited)
        return future


@asynccontextmanager
async def open_case(batching: Batching | None = None, answer_s: float = 0.1) -> AsyncIterator[Case]:
    """At the end, everything has an end. What failed is for the test to say."""
    loop = asyncio.get_running_loop()
    transport = Transport(answer_s=answer_s)
    sender = Sender(transport, RequestIds())
    case = Case(Batcher(sender, batching or Batching(), loop.call_soon), transport)
    yield case
    with suppress(TallyError):
        await case.batcher.close(100_000)
    assert case.batcher.progress.buffered_events == 0
    assert case.batcher.progress.in_flight_requests == 0


def names(count: int, start: int = 0) -> list[str]:
    return [f"v{n}" for n in range(start, start + count)]


@in_virtual_time
async def test_a_lone_event_leaves_at_once() -> None:
    async with open_case(Batching(linger_s=10.0)) as case:
        began = asyncio.get_running_loop().time()
        (future,) = case.add("a")
        receipt = await future
        assert case.transport.sent[0].at == began
        assert receipt.request_id == case.transport.sent[0].request_id


@in_virtual_time
async def test_what_is_handed_in_at_one_moment_leaves_together() -> None:
    async with open_case() as case:
        futures = case.add(*names(100))
        receipts = await asyncio.gather(*futures)
        assert len(case.transport.sent) == 1
        assert case.transport.videos == names(100)
        assert {receipt.accepted_count for receipt in receipts} == {100}


@in_virtual_time
async def test_while_a_request_is_under_way_events_gather_for_the_linger() -> None:
    async with open_case(Batching(linger_s=0.02)) as case:
        case.add("first")
        await asyncio.sleep(0.001)
        began = asyncio.get_running_loop().time()
        for n in range(10):
            case.add(f"v{n}")
            await asyncio.sleep(0.001)
        await case.batcher.flush()
        assert [len(sent.videos) for sent in case.transport.sent] == [1, 10]
        case.add("again")
        await asyncio.sleep(0.001)
        for n in range(40):
            case.add(f"w{n}")
            await asyncio.sleep(0.001)
        await case.batcher.flush()
        sizes = [len(sent.videos) for sent in case.transport.sent[3:]]
        assert sizes == pytest.approx([20, 20], abs=2)
        assert case.transport.sent[1].at == pytest.approx(began + 0.01, abs=0.002)


@in_virtual_time
async def test_the_answer_to_all_that_is_under_way_ends_the_linger() -> None:
    async with open_case(Batching(linger_s=10.0), answer_s=0.05) as case:
        case.add("first")
        await asyncio.sleep(0.01)
        case.add("second")
        await asyncio.sleep(1)
        first, second = case.transport.sent
        assert second.at - first.at == pytest.approx(0.05)


@in_virtual_time
async def test_a_full_request_does_not_wait_for_the_linger() -> None:
    async with open_case(Batching(linger_s=10.0, max_events=10), answer_s=1.0) as case:
        case.add("first")
        await asyncio.sleep(0.001)
        case.add(*names(25))
        await asyncio.sleep(0.001)
        assert [len(sent.videos) for sent in case.transport.sent] == [1, 10, 10]


@in_virtual_time
async def test_requests_under_way_are_bounded() -> None:
    async with open_case(Batching(max_events=5, max_in_flight=3), answer_s=1.0) as case:
        case.add(*names(100))
        await asyncio.sleep(0.5)
        assert case.batcher.progress.in_flight_requests == 3
        await case.batcher.flush()
        assert case.transport.most_under_way == 3
        assert case.transport.videos == names(100)


@in_virtual_time
async def test_a_full_buffer_takes_nothing_until_there_is_room() -> None:
    async with open_case(Batching(max_buffered_events=10, max_events=5), answer_s=1.0) as case:
        case.add(*names(10))
        assert case.batcher.is_full
        with pytest.raises(BufferFull, match="10 events wait"):
            case.add("one too many")
        room = asyncio.create_task(case.batcher.wait_for_room())
        await asyncio.sleep(0.5)
        assert not room.done()
        await asyncio.sleep(0.6)
        assert room.done()
        case.add("now it fits")
        await case.batcher.flush()
        assert case.transport.videos == [*names(10), "now it fits"]


@in_virtual_time
async def test_who_gives_up_waiting_for_room_gives_his_turn_to_the_next() -> None:
    async with open_case(Batching(max_buffered_events=1), answer_s=1.0) as case:
        (future,) = case.add("a")
        first, second = (asyncio.create_task(case.batcher.wait_for_room()) for _ in range(2))
        await asyncio.sleep(0)
        future.add_done_callback(lambda _: first.cancel())  # when it is the first one's turn already
        await asyncio.wait([second], timeout=5)
        assert first.cancelled()
        assert second.done()


@in_virtual_time
async def test_who_gives_up_waiting_for_room_is_forgotten() -> None:
    async with open_case(Batching(max_buffered_events=1), answer_s=1.0) as case:
        case.add("a")
        waiting = [asyncio.create_task(case.batcher.wait_for_room()) for _ in range(10)]
        await asyncio.sleep(0.1)
        for task in waiting[1:]:
            task.cancel()
        await asyncio.wait(waiting[1:])
        assert len(case.batcher._waiters) == 1


@in_virtual_time
async def test_flush_waits_for_what_was_handed_in_before_and_for_no_more() -> None:
    async with open_case(Batching(max_in_flight=1), answer_s=1.0) as case:
        loop = asyncio.get_running_loop()
        before = case.add("a", "b")
        flushing = asyncio.create_task(case.batcher.flush())
        await asyncio.sleep(0.5)
        (after,) = case.add("c")
        began = loop.time()
        await flushing
        assert loop.time() - began == pytest.approx(0.5)
        assert all(future.done() for future in before)
        assert not after.done()


@in_virtual_time
async def test_flush_raises_what_went_wrong_and_an_empty_one_returns() -> None:
    async with open_case(Batching(give_up_after_s=10.0)) as case:
        await case.batcher.flush()
        case.transport.turns.extend([fail(unanswered())] * 1000)
        (future,) = case.add("a")
        with pytest.raises(OutcomeUnknown) as raised:
            await case.batcher.flush()
        assert raised.value.batches[0].payload == case.transport.sent[0].payload
        assert isinstance(future.exception(), OutcomeUnknown)
        assert case.batcher.progress.unknown_events == 1


@in_virtual_time
async def test_flush_tells_once_of_what_had_failed_before_it() -> None:
    async with open_case(Batching(max_events=2)) as case:
        case.transport.turns.extend([fail(invalid("columns")), fail(out_of_range(1, ["columns"]))])
        case.add("a", "b", "c")
        await asyncio.sleep(10)
        with pytest.raises(InvalidRequest) as raised:
            await case.batcher.flush()
        assert raised.value.__notes__ == [
            "Without a receipt since the last flush: 3 events, of those whose callers do not wait."
        ]
        await case.batcher.flush()
        case.add("d")
        await case.batcher.flush()


@in_virtual_time
async def test_closing_tells_of_what_had_failed_before_it() -> None:
    async with open_case() as case:
        case.transport.turns.append(fail(invalid("columns.value[1]")))
        case.add("good", "bad")
        await asyncio.sleep(10)
        with pytest.raises(InvalidRequest):
            await case.batcher.close(5.0)
        await case.batcher.close(5.0)


@in_virtual_time
async def test_what_closing_gives_up_comes_before_what_had_failed() -> None:
    async with open_case() as case:
        case.transport.turns.extend([fail(invalid("columns")), never])
        case.add("bad")
        await asyncio.sleep(10)
        case.add("unknown")
        with pytest.raises(OutcomeUnknown) as raised:
            await case.batcher.close(5.0)
        assert isinstance(raised.value.__cause__, InvalidRequest)
        await case.batcher.close(5.0)


@in_virtual_time
async def test_every_flush_tells_of_what_fails_while_it_waits() -> None:
    async with open_case() as case:
        case.transport.turns.append(fail(invalid("columns")))
        case.add("bad")
        ends = await asyncio.gather(*(case.batcher.flush() for _ in range(3)), return_exceptions=True)
        assert [type(end) for end in ends] == [InvalidRequest] * 3


@in_virtual_time
async def test_flush_does_not_repeat_what_a_caller_who_waits_is_told() -> None:
    async with open_case() as case:
        case.transport.turns.append(fail(invalid("columns.value[0]")))
        told = case.add_one("bad", Awaited())
        case.add("good")
        await case.batcher.flush()
        assert isinstance(told.exception(), InvalidRequest)
        case.transport.turns.append(fail(invalid("columns")))
        case.add_one("bad", Awaited())
        case.add("bad too")
        with pytest.raises(InvalidRequest) as raised:
            await case.batcher.flush()
        assert raised.value.__notes__ == [
            "Without a receipt since the last flush: 1 event, of those whose callers do not wait."
        ]


@in_virtual_time
async def test_an_overloaded_service_that_is_given_up_leaves_the_outcome_unknown() -> None:
    async with open_case(Batching(give_up_after_s=10.0)) as case:
        case.transport.turns.extend([fail(overloaded(3.0))] * 1000)
        (future,) = case.add("a")
        with pytest.raises(OutcomeUnknown) as raised:
            await future
        assert raised.value.reason == "OVERLOADED"
        assert raised.value.batches


@pytest.mark.exact
@in_virtual_time
async def test_a_caller_who_is_cancelled_changes_nothing_about_what_is_sent() -> None:
    async with open_case() as case:
        waiting, under_way = case.add("a", "b"), None
        waiting[0].cancel()
        await asyncio.sleep(0.01)
        (under_way,) = case.add("c")
        await asyncio.sleep(0.03)
        under_way.cancel()
        await case.batcher.flush()
        assert case.transport.videos == ["a", "b", "c"]
        assert waiting[1].result().accepted_count == 2
        assert case.batcher.progress.counted_events == 3


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
async def test_flush_tells_of_the_events_that_were_refused() -> None:
    async with open_case() as case:
        case.transport.turns.append(fail(invalid("columns.value[0]")))
        case.add("bad", "good")
        with pytest.raises(InvalidRequest):
            await case.batcher.flush()
        assert case.transport.sent[-1].videos == ["good"]


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
        reused = RequestIdReused("reused", reason="REQUEST_ID_REUSED", violations=violations)
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


def test_the_end_of_the_loop_is_the_end_of_every_event() -> None:
    futures: list[Future] = []

    async def leave_open() -> None:
        began = asyncio.Event()

        async def begin(batch: Batch) -> Receipt:
            began.set()
            return await never(batch)

        loop = asyncio.get_running_loop()
        transport = Transport()
        transport.turns.extend([begin, *[never] * 10])
        batching = Batching(max_events=1, max_in_flight=1)
        sender = Sender(transport, RequestIds())
        batcher: Batcher[Future] = Batcher(sender, batching, loop.call_soon)
        await batcher.guard()
        case = Case(batcher, transport)
        futures.extend(case.add("a", "b", "c"))
        await began.wait()
        futures.extend(case.add("d"))

    asyncio.run(leave_open())
    errors = [future.exception() for future in futures]
    assert isinstance(errors[0], OutcomeUnknown)
    assert all(isinstance(error, NotSent | OutcomeUnknown) for error in errors)
    assert isinstance(errors[-1], NotSent)


@pytest.mark.exact
@in_virtual_time
async def test_closing_in_the_middle_declares_exactly_the_unsent_and_the_unknown() -> None:
    loop = asyncio.get_running_loop()
    transport = Transport(answer_s=0.1)
    sender = Sender(transport, RequestIds())
    batching = Batching(max_events=2, max_in_flight=2)
    batcher: Batcher[Future] = Batcher(sender, batching, loop.call_soon)
    case = Case(batcher, transport)
    counted = case.add("a", "b")
    await batcher.flush()
    transport.turns.extend([never, never])
    unknown = case.add("c", "d", "e", "f")
    unsent = case.add("g", "h", "i")
    began = loop.time()
    with pytest.raises(OutcomeUnknown, match=r"4 events had an answer.* 3 more were never sent") as raised:
        await batcher.close(5.0)
    assert loop.time() - began == pytest.approx(5.0)
    assert [len(batch.columns) for batch in raised.value.batches] == [2, 2]
    assert {batch.payload for batch in raised.value.batches} == {s.payload for s in transport.sent[1:]}
    assert all(future.exception() is None for future in counted)
    assert all(isinstance(future.exception(), OutcomeUnknown) for future in unknown)
    assert all(isinstance(future.exception(), NotSent) for future in unsent)
    assert transport.videos == ["a", "b", "c", "d", "e", "f"]
    progress = batcher.progress
    assert (progress.counted_events, progress.unknown_events, progress.unsent_events) == (2, 4, 3)
    assert (progress.buffered_events, progress.in_flight_requests) == (0, 0)


@in_virtual_time
async def test_closing_sends_what_was_handed_in_and_takes_no_more() -> None:
    async with open_case(Batching(max_events=2, max_in_flight=1)) as case:
        futures = case.add(*names(7))
        await case.batcher.close(5.0)
        assert all(future.result() for future in futures)
        with pytest.raises(ClientUnusable):
            case.add("late")
        assert case.transport.videos == names(7)


@in_virtual_time
async def test_closing_tells_those_who_wait_for_room() -> None:
    async with open_case(Batching(max_buffered_events=1), answer_s=1.0) as case:
        case.add("a")
        room = asyncio.create_task(case.batcher.wait_for_room())
        await asyncio.sleep(0.1)
        closing = asyncio.create_task(case.batcher.close(5.0))
        await asyncio.wait_for(room, 0.1)
        assert not case.batcher.is_full
        await closing


@in_virtual_time
async def test_a_closing_that_is_cancelled_still_declares_everything() -> None:
    async with open_case() as case:
        case.transport.turns.append(never)
        (future,) = case.add("a")
        closing = asyncio.create_task(case.batcher.close(60.0))
        await asyncio.sleep(1)
        closing.cancel()
        await asyncio.wait([closing])
        assert isinstance(future.exception(), OutcomeUnknown)


@in_virtual_time
async def test_a_request_that_is_given_up_before_its_first_step_is_declared_unsent() -> None:
    async def answer_and_cut_off(batch: Batch) -> Receipt:
        closing.cancel()  # it goes on before the next request does, which is dispatched after this answer
        return receipt_of(batch)

    async with open_case(Batching(max_events=1, max_in_flight=1)) as case:
        case.transport.turns.append(answer_and_cut_off)
        first, second = case.add("a", "b")
        closing = asyncio.create_task(case.batcher.close(60.0))
        flushing = asyncio.create_task(case.batcher.flush())
        await asyncio.wait([closing, flushing])
        assert first.exception() is None
        assert isinstance(second.exception(), NotSent)
        assert isinstance(flushing.exception(), NotSent)
        assert case.transport.videos == ["a"]


STEPS = st.lists(
    st.tuples(
        st.integers(0, 7),  # events that come
        st.sampled_from([0.0, 0.0, 0.003, 0.2]),  # seconds until the next step
        st.sampled_from(["answer", "answer", "lost", "lost and counted", "overloaded", "cancel"]),
    ),
    max_size=25,
)


@pytest.mark.exact
@settings(deadline=None)
@given(STEPS, st.integers(1, 6), st.integers(1, 3))
def test_every_event_is_counted_once_and_its_receipt_is_that_of_its_request(
    steps: list[tuple[int, float, str]], max_events: int, max_in_flight: int
) -> None:
    counted: dict[str, list[str]] = {}
    contents: dict[str, bytes] = {}

    def count(batch: Batch) -> Receipt:
        assert contents.setdefault(batch.request_id, batch.payload) == batch.payload
        videos = [
            batch.columns.video_ids[int.from_bytes(batch.columns.video_index[at : at + 2], "little")]
            for at in range(0, 2 * len(batch.columns), 2)
        ]
        counted.setdefault(batch.request_id, videos)
        return receipt_of(batch)

    async def answer(batch: Batch) -> Receipt:
        await asyncio.sleep(0.01)
        return count(batch)

    async def lose_the_answer(batch: Batch) -> Receipt:
        count(batch)
        raise unanswered()

    turns = {
        "answer": answer,
        "cancel": answer,
        "lost": fail(unanswered()),
        "lost and counted": lose_the_answer,
        "overloaded": fail(overloaded(0.05)),
    }

    @in_virtual_time
    async def run() -> None:
        batching = Batching(max_events=max_events, max_in_flight=max_in_flight)
        futures: dict[str, Future] = {}
        async with open_case(batching) as case:
            case.transport.turns.extend(turns[what] for _, _, what in steps)
            case.transport.turns.extend([answer] * 1000)
            for number, (events, pause_s, what) in enumerate(steps):
                videos = [f"{number}.{n}" for n in range(events)]
                futures.update(zip(videos, case.add(*videos), strict=True))
                if what == "cancel" and videos:
                    futures[videos[0]].cancel()
                await asyncio.sleep(pause_s)
            await case.batcher.flush()
        in_order = [video for videos in counted.values() for video in videos]
        assert sorted(in_order) == sorted(futures)
        assert len(in_order) == len(set(in_order))
        assert list(dict.fromkeys(case.transport.videos)) == list(futures)
        assert case.transport.most_under_way <= max_in_flight
        for request_id, videos in counted.items():
            assert 1 <= len(videos) <= max_events
            for video in videos:
                if not futures[video].cancelled():
                    assert futures[video].result().request_id == request_id

    run()
