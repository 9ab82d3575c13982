"""A client in a fork, and among greenlets: it works, or says at once what to do. Each case is a process."""

import asyncio
import os
import subprocess
import sys

import pytest

from tests.integration.tally.peer import Peer, videos_of

PARENT = """
import asyncio, gc, os, sys
import grpc
from tally.client import TallyError
from tally.client import Client as AsyncClient
from tally.client import Event
from tally.client.blocking import Client

address, state, child, *transport = sys.argv[1:]
transport = transport[0] if transport else 'unary'

async def use_async():
    async with AsyncClient(address) as client:
        await client.count("parent")

def use_stub():
    channel = grpc.insecure_channel(address)
    channel.unary_unary("/tally.ingest.v1.IngestService/CountEvent")(b"", timeout=5)
    return channel

def say(work):
    try:
        print("counted", work("child").accepted_count, flush=True)
    except TallyError as error:
        print(error.reason, error, flush=True)

def count_anew(video):
    with Client(address, timeout=5) as client:
        return client.count(video)

kept = None
if state == "unused":
    kept = Client(address)
elif state == "opened":
    kept = Client(address)
    kept.flush()
elif state == "closed":
    count_anew("parent")
elif state == "failed and closed":
    try:
        with Client("127.0.0.1:1", timeout=0.2, transport=transport) as client:
            try:
                client.process_many([Event("parent")])
            except TallyError as error:
                kept = [error]
                client.get_views_count("v")
    except TallyError as error:
        kept.append(error)
elif state == "open":
    kept = Client(address)
    kept.count("parent")
elif state == "async closed":
    asyncio.run(use_async())
elif state == "async open":
    kept = asyncio.new_event_loop()
    client = kept.run_until_complete(AsyncClient(address).__aenter__())
    kept.run_until_complete(client.count("parent"))
elif state == "a stub open":
    kept = use_stub()
elif state == "a stub closed":
    use_stub().close()
"""

FORK = """
if os.fork() == 0:
    if child == "anew":
        say(count_anew)
    elif child == "the same":
        say(kept.count)
    elif child == "forgets":
        del kept
        gc.collect()
        print("forgot", flush=True)
    elif child == "forks again":
        if os.fork() == 0:
            say(count_anew)
            sys.exit()
        assert os.wait()[1] == 0
    sys.exit()  # and with it all that a process does at its end
assert os.wait()[1] == 0
if state in ("open", "unused"):
    kept.count("parent again")
print("done")
"""

POOL = """
import multiprocessing
with multiprocessing.get_context(child).Pool(2) as pool:
    try:
        print("counted", sum(receipt.accepted_count for receipt in pool.map(count_anew, ["a", "b", "c"])))
    except TallyError as error:
        print(error.reason, error)
"""


async def run(code: str, *arguments: str, **environment: str) -> str:
    """What a script prints. One that hangs, or ends in another way than well, fails the test."""
    script = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONWARNINGS": "ignore"} | environment,
    )
    try:
        output, errors = await asyncio.wait_for(script.communicate(), 20)
    finally:
        if script.returncode is None:
            script.kill()
            await script.wait()
    assert script.returncode == 0, output.decode() + errors.decode()
    return output.decode()


def videos(peer: Peer) -> list[list[str]]:
    """Of each request, in order; that of a stub has none."""
    return [videos_of(request) for request in peer.received if request.rpc == "ProcessEvents"]


@pytest.mark.parametrize(
    "state", ["unused", "opened", "closed", "failed and closed", "async closed", "a stub closed"]
)
@pytest.mark.parametrize("fork_support", ["0", "1"])
async def test_the_fork_of_a_process_in_which_no_channel_is_open_counts(
    peer: Peer, state: str, fork_support: str
) -> None:
    said = await run(PARENT + FORK, peer.address, state, "anew", GRPC_ENABLE_FORK_SUPPORT=fork_support)
    assert said == "counted 1\ndone\n"
    assert ["child"] in videos(peer)


@pytest.mark.parametrize("transport", ["stream", "direct"])
async def test_an_error_that_is_kept_does_not_keep_a_channel(peer: Peer, transport: str) -> None:
    said = await run(PARENT + FORK, peer.address, "failed and closed", "anew", transport)
    assert said == "counted 1\ndone\n"


async def test_a_client_that_was_made_before_the_fork_is_used_after_it_on_both_sides(peer: Peer) -> None:
    assert await run(PARENT + FORK, peer.address, "unused", "the same") == "counted 1\ndone\n"
    assert videos(peer) == [["child"], ["parent again"]]


@pytest.mark.parametrize("state", ["open", "async open", "a stub open"])
async def test_the_fork_of_a_process_in_which_a_channel_is_open_is_told_at_once_what_to_do(
    peer: Peer, state: str
) -> None:
    said = await run(PARENT + FORK, peer.address, state, "anew")
    assert said.startswith("FORKED_WITH_GRPC")
    assert "Close every client in the parent before the fork" in said
    assert said.endswith("done\n")
    assert ["child"] not in videos(peer)


async def test_the_fork_of_a_fork_is_told_too(peer: Peer) -> None:
    said = await run(PARENT + FORK, peer.address, "open", "forks again")
    assert said.startswith("FORKED_WITH_GRPC")


async def test_a_stub_that_grpc_sees_through_a_fork_does_no_harm(peer: Peer) -> None:
    said = await run(PARENT + FORK, peer.address, "a stub open", "anew", GRPC_ENABLE_FORK_SUPPORT="1")
    assert said == "counted 1\ndone\n"


async def test_a_client_that_was_used_is_refused_in_the_fork_and_its_parent_goes_on(peer: Peer) -> None:
    said = await run(PARENT + FORK, peer.address, "open", "the same")
    assert said.startswith("CLIENT_FORKED the client was used in process")
    assert videos(peer) == [["parent"], ["parent again"]]


@pytest.mark.parametrize("state", ["open", "async open"])
async def test_a_fork_that_forgets_the_client_of_its_parent_ends_at_once(peer: Peer, state: str) -> None:
    assert await run(PARENT + FORK, peer.address, state, "forgets") == "forgot\ndone\n"


async def test_a_pool_of_forks_counts_or_hands_the_error_to_its_parent(peer: Peer) -> None:
    assert await run(PARENT + POOL, peer.address, "closed", "fork") == "counted 3\n"
    assert (await run(PARENT + POOL, peer.address, "open", "fork")).startswith("FORKED_WITH_GRPC")


GREENLETS = """
import sys
from gevent import monkey
monkey.patch_all(**{module: False for module in sys.argv[2:]})
import asyncio
from tally.client import Client as AsyncClient
from tally.client import TallyError
from tally.client.blocking import Client

try:
    with Client(sys.argv[1]) as client:
        print("counted", client.count("v").accepted_count)
except TallyError as error:
    print(error.reason, error)
try:
    asyncio.run(AsyncClient(sys.argv[1]).__aenter__())
except TallyError as error:
    print(error.reason, error)
"""


async def test_a_client_among_greenlets_is_refused_at_once(peer: Peer) -> None:
    for left in ([], ["thread"], ["select"]):
        blocking, asynchronous = (await run(GREENLETS, peer.address, *left)).splitlines()
        assert blocking == asynchronous
        assert blocking.startswith("THREADS_PATCHED")
        assert "monkey.patch_all(thread=False, select=False)" in blocking


async def test_a_client_counts_where_gevent_leaves_threads_and_select_alone(peer: Peer) -> None:
    assert await run(GREENLETS, peer.address, "thread", "select") == "counted 1\n"
