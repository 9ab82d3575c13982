"""The peer runs on the event loop of the test, so everything that blocks is called in a thread."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from itertools import count

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from tally.client import (
    Batch,
    Batching,
    BufferFull,
    ClientUnusable,
    Event,
    InvalidRequest,
    NotSent,
    OutcomeUnknown,
    Overloaded,
    Receipt,
    Refusal,
    StillSending,
    TallyError,
)
from tally.client.blocking import Client
from tally.query.v1 import query_pb2
from tests.integration.tally.peer import (
    Context,
    Peer,
    batch_of,
    error_info,
    never_answer,
    refuse,
    retry_after,
    videos_of,
)
from tests.unit.tally.interrupts import At, Interrupt, interrupt


def client_threads() -> int:
    return sum(thread.name == "tally-client" for thread in threading.enumerate())


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


async def test_a_result_and_an_error_are_those_of_the_asynchronous_client(peer: Peer) -> None:
    peer.answers["GetCount"] = query_pb2.GetCountResponse(count=3, as_of=Timestamp(seconds=60))

    def use() -> None:
        with Client(peer.address) as client:
            assert client.address == peer.address
            assert client.get_count("v", "like").count == 3
            assert client.process_many([Event("v")] * 5).accepted_count == 5
            with pytest.raises(InvalidRequest):
                client.get_count("v", start=datetime(2026, 1, 1))  # noqa: DTZ001 - a naive time is the point
            with pytest.raises(InvalidRequest):
                client.count("v", event_time=datetime(2026, 1, 1))  # noqa: DTZ001 - a naive time is the point
            peer.turns.append(never_answer)
            with pytest.raises(OutcomeUnknown) as raised:
                client.count("v", request_id=client.make_request_id(), timeout=0.5)
            assert raised.value.request_id

    await asyncio.to_thread(use)


async def test_a_stream_may_be_fed_by_an_iterator_that_waits_for_the_answers(peer: Peer) -> None:
    def use() -> list[Receipt | Refusal]:
        outcomes: list[Receipt | Refusal] = []
        answered = threading.Event()

        def batches(client: Client) -> Iterator[Batch]:
            yield client.batch([Event("a")])
            assert answered.wait(5)
            yield client.batch([Event("refused")])

        with Client(peer.address) as client:
            for outcome in client.stream(batches(client)):
                outcomes.append(outcome)
                answered.set()
        return outcomes

    receipt, refusal = await asyncio.to_thread(use)
    assert isinstance(receipt, Receipt)
    assert isinstance(refusal, Refusal)


async def test_a_stream_can_be_left_in_the_middle(peer: Peer) -> None:
    def use() -> Receipt:
        with Client(peer.address) as client:
            for _ in client.stream(client.batch([Event("a")]) for _ in range(1_000_000)):
                break
            return client.count("v")

    assert (await asyncio.to_thread(use)).accepted_count == 1


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


async def test_closing_ends_the_thread_and_refuses_what_comes_later(peer: Peer) -> None:
    def use() -> None:
        before = client_threads()
        client = Client(peer.address)
        assert client_threads() == before + 1
        client.count("v")
        client.close()
        client.close()
        assert client_threads() == before
        with pytest.raises(ClientUnusable, match="closed"):
            client.count("v")

    await asyncio.to_thread(use)


async def test_closing_lets_the_calls_of_other_threads_end(peer: Peer) -> None:
    arrived, go_on = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def dawdle(_payload: bytes, _context: Context) -> None:
        arrived.set()
        await go_on.wait()

    def use() -> Receipt:
        with Client(peer.address) as client, ThreadPoolExecutor(1) as threads:
            call = threads.submit(client.count, "v")
            assert arrived.wait(5)
            loop.call_soon_threadsafe(loop.call_later, 0.1, go_on.set)
            client.close()
            return call.result(5)  # its thread may need a moment to wake up; the client's is gone

    peer.turns.append(dawdle)
    assert (await asyncio.to_thread(use)).accepted_count == 1


async def test_closing_ends_a_wait_for_an_overloaded_service(peer: Peer) -> None:
    arrived = threading.Event()
    busy = refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy", error_info("OVERLOADED"), retry_after(60))

    async def arrive(payload: bytes, context: Context) -> None:
        arrived.set()
        await busy(payload, context)

    def use() -> None:
        with Client(peer.address, timeout=0.1) as client, ThreadPoolExecutor(1) as threads:
            request_id = client.make_request_id()
            call = threads.submit(client.count, "v", request_id=request_id, timeout=600)
            assert arrived.wait(5)
            client.close()
            with pytest.raises((Overloaded, OutcomeUnknown)) as raised:
                call.result(5)
            assert raised.value.request_id

    peer.turns.append(arrive)
    await asyncio.to_thread(use)


async def test_a_call_that_outlasts_the_closing_is_told_that_its_outcome_is_unknown(peer: Peer) -> None:
    arrived = threading.Event()

    async def arrive(payload: bytes, context: Context) -> None:
        arrived.set()
        await never_answer(payload, context)

    def use() -> None:
        with Client(peer.address, timeout=0.1) as client, ThreadPoolExecutor(1) as threads:
            call = threads.submit(client.count, "v", timeout=600)
            assert arrived.wait(5)
            with pytest.raises(OutcomeUnknown):
                client.close()
            with pytest.raises(OutcomeUnknown) as raised:
                call.result(5)
            assert raised.value.reason == "CLIENT_CLOSED"

    peer.turns.append(arrive)
    await asyncio.to_thread(use)


async def test_threads_that_race_with_the_closing_all_get_an_end(peer: Peer) -> None:
    def count_on(client: Client) -> str:
        try:
            while True:
                client.count("v")
        except (ClientUnusable, OutcomeUnknown) as error:
            return error.reason

    def use() -> list[str]:
        with Client(peer.address) as client, ThreadPoolExecutor(4) as threads:
            calls = [threads.submit(count_on, client) for _ in range(4)]
            while len(peer.received) < 20:
                time.sleep(0.001)
            client.close()
            return [call.result(10) for call in calls]

    assert set(await asyncio.to_thread(use)) == {"CLIENT_CLOSED"}


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


async def test_a_full_buffer_makes_a_thread_wait_or_raises_as_it_chose(peer: Peer) -> None:
    arrived, go_on = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def dawdle(_payload: bytes, _context: Context) -> None:
        arrived.set()
        await go_on.wait()

    def use() -> None:
        hasty = Batching(max_buffered_events=1, when_full="raise")
        with Client(peer.address, batching=hasty) as client:
            client.submit("a")
            with pytest.raises(BufferFull):
                client.submit("b")
            loop.call_soon_threadsafe(go_on.set)
            client.flush()
        loop.call_soon_threadsafe(go_on.clear)
        arrived.clear()
        with Client(peer.address, batching=Batching(max_buffered_events=1)) as client:
            client.submit("a")
            assert arrived.wait(5)
            with pytest.raises(BufferFull, match=r"no room within 0.1 s"):
                client.count("never taken", timeout=0.1)
            loop.call_soon_threadsafe(loop.call_later, 0.1, go_on.set)
            assert client.submit("b").result(5).accepted_count == 1

    peer.turns.extend([dawdle, dawdle])
    await asyncio.to_thread(use)
    assert [videos_of(received) for received in peer.received] == [["a"], ["a"], ["b"]]


async def test_closing_tells_a_thread_that_waits_for_room(peer: Peer) -> None:
    def use() -> None:
        batching = Batching(max_buffered_events=1)
        client = Client(peer.address, batching=batching, timeout=0.3)
        with ThreadPoolExecutor(1) as threads:
            future = client.submit("a")
            waiting = threads.submit(client.submit, "b")
            with pytest.raises(OutcomeUnknown):
                client.close()
            with pytest.raises(ClientUnusable):
                waiting.result(5)
            assert isinstance(future.exception(5), OutcomeUnknown)

    peer.turns.append(never_answer)
    await asyncio.to_thread(use)


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


async def test_the_end_of_the_thread_is_the_end_of_every_event(peer: Peer) -> None:
    async def die() -> None:
        sys.exit(1)

    def use() -> None:
        client = Client(peer.address, batching=Batching(max_events=1, max_in_flight=1))
        futures = [client.submit(video) for video in "abc"]
        client._thread.start(die())
        assert [type(future.exception(5)) in (OutcomeUnknown, NotSent) for future in futures] == [True] * 3
        for call in (client.health, client.flush, client.close):
            with pytest.raises(ClientUnusable):
                call()
        with pytest.raises(ClientUnusable):
            client.submit("d")

    peer.turns.extend([never_answer] * 3)
    await asyncio.to_thread(use)


async def test_a_client_that_cannot_be_opened_leaves_no_thread(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def use() -> None:
        before = client_threads()
        with pytest.raises(TallyError, match="xxhash"):
            Client(peer.address, transport="direct")
        assert client_threads() == before

    monkeypatch.setitem(sys.modules, "xxhash", None)
    monkeypatch.delitem(sys.modules, "tally.client.direct", raising=False)
    monkeypatch.delitem(sys.modules, "tally.client.entries", raising=False)
    await asyncio.to_thread(use)


async def test_a_thread_that_waits_no_longer_is_told_that_the_event_is_sent_on(peer: Peer) -> None:
    go_on = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def dawdle(_payload: bytes, _context: Context) -> None:
        await go_on.wait()

    def use() -> None:
        with Client(peer.address) as client:
            with pytest.raises(StillSending, match=r"no receipt within 0.1 s; the client goes on") as raised:
                client.count("a", timeout=0.1)
            loop.call_soon_threadsafe(go_on.set)
            client.flush()
            assert client.progress.counted_events == 1
            assert raised.value.request_id is None

    peer.turns.append(dawdle)
    await asyncio.to_thread(use)


async def test_a_bad_event_is_refused_to_its_own_thread(peer: Peer) -> None:
    def use() -> None:
        with Client(peer.address, transport="stream") as client:
            with pytest.raises(InvalidRequest):
                client.submit("")
            with pytest.raises(InvalidRequest):
                client.process(Event("v", value=float("nan")))
            client.submit_event(Event("v", value=1.0))

    await asyncio.to_thread(use)
    assert [videos_of(received) for received in peer.received] == [["v"]]


async def test_a_client_that_nobody_closed_ends_its_thread_when_it_is_forgotten(peer: Peer) -> None:
    def use() -> None:
        before = client_threads()
        client = Client(peer.address)
        client.submit("v")
        del client
        gc.collect()
        assert client_threads() == before
        assert len(peer.received) == 1

    await asyncio.to_thread(use)


FORKING = """
import os, sys
from tally.client import ClientUnusable
from tally.client.blocking import Client

client = Client(sys.argv[1])
client.count("before")
child = os.fork()
if child == 0:
    try:
        client.count("in the fork")
    except ClientUnusable as error:
        client.close()
        print(error.reason, error, flush=True)
    sys.exit(0)  # and with it all that a process does at its end
assert os.waitpid(child, 0)[1] == 0
client.count("after")
"""


async def test_a_fork_is_refused_and_its_parent_goes_on(peer: Peer) -> None:
    script = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        FORKING,
        peer.address,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    try:
        output, errors = await asyncio.wait_for(script.communicate(), 30)
    finally:
        if script.returncode is None:
            script.kill()
    assert script.returncode == 0, errors.decode()
    assert output.decode().startswith(f"CLIENT_FORKED the client was opened in process {script.pid}")
    assert [videos_of(r) for r in peer.received] == [["before"], ["after"]]


async def test_a_script_that_forgets_to_close_sends_what_it_has_and_ends_at_once(peer: Peer) -> None:
    code = "import sys; from tally.client.blocking import Client; Client(sys.argv[1]).submit('v')"
    started = time.monotonic()
    script = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, peer.address, stderr=subprocess.PIPE
    )
    _, errors = await asyncio.wait_for(script.communicate(), 30)
    assert (script.returncode, errors) == (0, b"")
    assert [videos_of(received) for received in peer.received] == [["v"]]
    assert time.monotonic() - started < 15
