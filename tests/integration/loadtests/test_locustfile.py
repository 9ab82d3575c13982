"""The locustfile against a running Tally, behind a door that lets through, forgets, repeats or stays silent."""

import asyncio
import sys
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import pytest

from tally.client.request_id import RequestIds
from tally.ingest.v1 import ingest_pb2
from tests.integration.loadtests.door import Fault, Forward, open_door
from tests.support.stack import Stack

ROOT = Path(__file__).parents[3]
COUNT_VIEW = "/tally.ingest.v1.IngestService/CountViewEvent"


async def pass_on(_path: str, request: bytes, forward: Forward, _context: Any) -> bytes:
    return await forward(request)


def lose_answers() -> Fault:
    """Counts the first view, and says UNAVAILABLE."""
    views = count()

    async def fault(path: str, request: bytes, forward: Forward, context: Any) -> bytes:
        answer = await forward(request)
        if path == COUNT_VIEW and next(views) == 0:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the answer is lost")
        return answer

    return fault


def forget_events() -> Fault:
    """Acknowledges the first view, and counts nothing."""
    views = count()

    async def fault(path: str, request: bytes, forward: Forward, _context: Any) -> bytes:
        if path == COUNT_VIEW and next(views) == 0:
            receipt = ingest_pb2.Receipt(accepted_count=1)
            return ingest_pb2.CountViewEventResponse(receipt=receipt).SerializeToString()
        return await forward(request)

    return fault


def count_twice() -> Fault:
    """Sends the first view on again, under an id of its own."""
    views = count()

    async def fault(path: str, request: bytes, forward: Forward, _context: Any) -> bytes:
        if path == COUNT_VIEW and next(views) == 0:
            again = ingest_pb2.CountViewEventRequest.FromString(request)
            again.request_id = RequestIds().make()
            await forward(again.SerializeToString())
        return await forward(request)

    return fault


async def run_locust(address: str) -> tuple[int | None, str]:
    """Two users for a second; the exit code and all that was printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--headless",
        "--users", "2", "--spawn-rate", "2", "--run-time", "1s", "--host", address,
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
    async with open_door(stack.address, pass_on) as address:
        code, printed = await run_locust(address)
    assert "verdict: exact: counted = acknowledged" in printed
    assert code == 0


async def test_a_lost_answer_is_made_up_for_by_a_retry(stack: Stack) -> None:
    async with open_door(stack.address, lose_answers()) as address:
        code, printed = await run_locust(address)
    assert "UNAVAILABLE" in printed
    assert "verdict: exact: counted = acknowledged" in printed
    assert code == 0


@pytest.mark.parametrize("fault", [forget_events(), count_twice()], ids=["forgets", "counts twice"])
async def test_a_tally_that_counts_wrong_fails(stack: Stack, fault: Fault) -> None:
    async with open_door(stack.address, fault) as address:
        code, printed = await run_locust(address)
    assert "wrong: view of load-" in printed
    assert "verdict: WRONG" in printed
    assert code == 1


async def test_counts_that_cannot_be_read_back_fail_the_run() -> None:
    async def away(_path: str, _request: bytes, _forward: Forward, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.INTERNAL, "no")
        raise AssertionError

    async with open_door("127.0.0.1:1", away) as address:
        code, printed = await run_locust(address)
    assert "cannot read the counts back: INTERNAL: no" in printed
    assert code == 1
