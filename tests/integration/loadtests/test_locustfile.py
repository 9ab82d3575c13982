"""The locustfile against a running Tally, behind a peer that lets through, forgets, repeats or stays silent."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import Message

from tally.client.request_id import RequestIds
from tally.ingest.v1 import ingest_pb2
from tests.support.peer import ANY, Context, Peer, open_peer, refuse
from tests.support.stack import Stack

ROOT = Path(__file__).parents[3]
Wrong = Callable[[Peer, bytes], Awaitable[Message | None]]
COUNT_VIEW = "/tally.ingest.v1.IngestService/CountViewEvent"


async def run_locust(address: str) -> tuple[int | None, str]:
    """Four users for two seconds, so that every rpc is called; the exit code and all that was printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--headless",
        "--users", "4", "--spawn-rate", "4", "--run-time", "2s", "--host", address,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        printed, _ = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, printed.decode()


async def test_a_tally_that_counts_right_passes(stack: Stack) -> None:
    async with open_peer(target=stack.address) as peer:
        code, printed = await run_locust(peer.address)
    assert "verdict: exact: counted = acknowledged" in printed
    assert code == 0


async def test_a_lost_answer_is_made_up_for_by_a_retry(stack: Stack) -> None:
    async with open_peer(target=stack.address) as peer:

        async def lose(payload: bytes, context: Context) -> None:
            await peer.forward(COUNT_VIEW, payload)
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the answer is lost")

        peer.once["CountViewEvent"] = lose
        code, printed = await run_locust(peer.address)
    assert "UNAVAILABLE" in printed
    assert "verdict: exact: counted = acknowledged" in printed
    assert code == 0


async def forget(_peer: Peer, _payload: bytes) -> ingest_pb2.CountViewEventResponse:
    """Acknowledges a view, and counts nothing."""
    return ingest_pb2.CountViewEventResponse(receipt=ingest_pb2.Receipt(accepted_count=1))


async def count_twice(peer: Peer, payload: bytes) -> None:
    """Sends a view on once more, under an id of its own."""
    again = ingest_pb2.CountViewEventRequest.FromString(payload)
    again.request_id = RequestIds().make()
    await peer.forward(COUNT_VIEW, again.SerializeToString())


@pytest.mark.parametrize("wrong", [forget, count_twice])
async def test_a_tally_that_counts_wrong_fails(stack: Stack, wrong: Wrong) -> None:
    async with open_peer(target=stack.address) as peer:
        peer.answers["CountViewEvent"] = lambda payload, _: wrong(peer, payload)
        code, printed = await run_locust(peer.address)
    assert "wrong: view of load-" in printed
    assert "verdict: WRONG" in printed
    assert code == 1


async def test_counts_that_cannot_be_read_back_fail_the_run() -> None:
    async with open_peer() as peer:
        peer.answers[ANY] = refuse(grpc.StatusCode.INTERNAL)
        code, printed = await run_locust(peer.address)
    assert "cannot read the counts back: INTERNAL: no" in printed
    assert code == 1
