"""When events leave, who waits for room, and that each is counted once. Time is virtual."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tally.client import Batch, Batching, BufferFull, Receipt
from tests.support.virtual_time import in_virtual_time
from tests.unit.tally.batching import Future, names, open_case
from tests.unit.tally.transport import fail, overloaded, receipt_of, unanswered


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
