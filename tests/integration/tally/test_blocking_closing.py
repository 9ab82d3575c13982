"""The end of a client that threads share, by closing, forgetting, forking or worse."""

import asyncio
import gc
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from tally.client import Batching, ClientUnusable, NotSent, OutcomeUnknown, Overloaded, TallyError
from tally.client.blocking import Client
from tests.integration.tally.peer import Peer, error_info, retry_after, videos_of
from tests.support.peer import Context, never_answer, refuse


def client_threads() -> int:
    return sum(thread.name == "tally-client" for thread in threading.enumerate())


async def test_closing_ends_the_thread_and_refuses_what_comes_later(peer: Peer) -> None:
    def use() -> None:
        before = client_threads()
        client = Client(peer.address)
        assert client_threads() == before
        client.count("v")
        assert client_threads() == before + 1
        client.close()
        client.close()
        assert client_threads() == before
        with pytest.raises(ClientUnusable, match="closed"):
            client.count("v")

    await asyncio.to_thread(use)


async def test_threads_whose_first_calls_race_share_one_thread_of_the_client(peer: Peer) -> None:
    def use() -> int:
        before = client_threads()
        with Client(peer.address) as client, ThreadPoolExecutor(8) as threads:
            assert client.progress.counted_events == 0
            assert sum(receipt.accepted_count > 0 for receipt in threads.map(client.count, "abcdefgh")) == 8
            assert client_threads() == before + 1
            return client.progress.counted_events

    assert await asyncio.to_thread(use) == 8


async def test_a_client_that_was_closed_before_its_first_call_refuses_it(peer: Peer) -> None:
    def use() -> None:
        client = Client(peer.address)
        client.close()
        assert client.progress.buffered_events == 0
        with pytest.raises(ClientUnusable, match="closed"):
            client.count("v")

    await asyncio.to_thread(use)


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


async def test_the_end_of_the_thread_is_the_end_of_every_event(peer: Peer) -> None:
    async def die() -> None:
        sys.exit(1)

    def use() -> None:
        client = Client(peer.address, batching=Batching(max_events=1, max_in_flight=1))
        futures = [client.submit(video) for video in "abc"]
        client._run.thread.start(die())
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
