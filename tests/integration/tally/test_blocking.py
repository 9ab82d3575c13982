"""Threads that share a client. The peer runs on the event loop of the test, so what blocks is called in a thread."""

import asyncio
import gc
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count

import pytest

from tally.client import (
    Batching,
    Event,
    Receipt,
)
from tally.client.blocking import Client
from tests.integration.tally.peer import Peer, batch_of, videos_of
from tests.support.interrupts import At, Interrupt, interrupt
from tests.support.peer import Context


async def test_many_threads_share_one_client(peer: Peer) -> None:
    def count_all() -> list[Receipt]:
        with Client(peer.address) as client, ThreadPoolExecutor(8) as threads:
            return list(threads.map(client.count, [f"v{n}" for n in range(200)]))

    receipts = await asyncio.to_thread(count_all)
    assert sorted(video for r in peer.received for video in videos_of(r)) == sorted(
        f"v{n}" for n in range(200)
    )
    assert {batch_of(r).request_id for r in peer.received} == {r.request_id for r in receipts}
    assert len(receipts) == 200


async def test_a_signal_that_raises_in_the_middle_of_counting_harms_nothing_that_comes_later(
    peer: Peer,
) -> None:
    def use() -> int:
        with Client(peer.address) as client:
            for number in count():
                with suppress(Interrupt), At(number, interrupt) as at:
                    client.count("a")
                assert client.count("b").accepted_count > 0
                if not at.was_reached:
                    return number
        raise AssertionError

    assert await asyncio.wait_for(asyncio.to_thread(use), 60) > 10


async def test_a_stream_that_is_collected_in_the_middle_of_another_call_holds_nothing_up(peer: Peer) -> None:
    def use() -> int:
        with Client(peer.address) as client:
            for number in count(step=9):
                outcomes = client.stream(client.batch([Event("a")]) for _ in range(3))
                next(outcomes)
                request_id = client.make_request_id()
                with At(number, outcomes.close) as at:  # what the collector does with it
                    client.count("v", request_id=request_id)
                if not at.was_reached:
                    outcomes.close()
                    return number
        raise AssertionError

    assert await asyncio.wait_for(asyncio.to_thread(use), 60) > 10


async def test_streams_that_the_collector_ends_leave_no_complaints(
    peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    def use() -> None:
        with Client(peer.address) as client:
            for _ in range(5):
                outcomes = client.stream(client.batch([Event("a")]) for _ in range(3))
                next(outcomes)
                cycle: list[object] = [outcomes]
                cycle.append(cycle)
                del outcomes, cycle
                gc.collect()
            client.count("v")

    await asyncio.to_thread(use)
    gc.collect()
    assert caplog.records == []


async def test_threads_hand_in_events_while_the_buffer_is_full_again_and_again(peer: Peer) -> None:
    batching = Batching(max_events=7, max_buffered_events=20, max_in_flight=2)

    def use() -> list[Receipt]:
        with Client(peer.address, batching=batching) as client, ThreadPoolExecutor(8) as threads:

            def submit(thread: int) -> list[Receipt]:
                futures = [client.submit(f"{thread}.{n}") for n in range(100)]
                return [future.result(20) for future in futures]

            receipts = [receipt for each in threads.map(submit, range(8)) for receipt in each]
            assert client.progress.counted_events == 800
            return receipts

    receipts = await asyncio.to_thread(use)
    sent = [videos_of(received) for received in peer.received]
    assert max(map(len, sent)) <= 7
    by_thread: dict[str, list[int]] = {}
    for video in (video for videos in sent for video in videos):
        thread, _, n = video.partition(".")
        by_thread.setdefault(thread, []).append(int(n))
    # Each event once, and those of one thread in its order, but for requests that overtook each other.
    assert {thread: sorted(numbers) for thread, numbers in by_thread.items()} == {
        str(thread): list(range(100)) for thread in range(8)
    }
    assert {receipt.request_id for receipt in receipts} == {batch_of(r).request_id for r in peer.received}


async def test_the_future_of_an_event_cannot_be_called_back(peer: Peer) -> None:
    def use() -> Receipt:
        with Client(peer.address) as client:
            future = client.submit("a")
            assert not future.cancel()
            return future.result(5)

    assert (await asyncio.to_thread(use)).accepted_count == 1


async def test_a_callback_that_wants_to_end_the_program_ends_nothing_else(peer: Peer) -> None:
    go_on = threading.Event()

    def leave(_future: object) -> None:
        sys.exit(1)

    async def dawdle(_payload: bytes, _context: Context) -> None:
        await asyncio.to_thread(go_on.wait, 5)

    def use() -> None:
        with Client(peer.address) as client:
            futures = [client.submit(video) for video in "abc"]
            for future in futures:
                future.add_done_callback(leave)
            go_on.set()
            assert [future.result(5).accepted_count > 0 for future in futures] == [True] * 3
            assert client.count("d").accepted_count == 1

    peer.turns.append(dawdle)
    await asyncio.to_thread(use)
