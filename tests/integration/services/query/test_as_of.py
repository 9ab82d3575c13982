"""What `as_of` promises: every event journaled before it is in the answer."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from services.counting.settings import CountingSettings, FlushSettings
from services.query.settings import HotSettings, QuerySettings
from tally.common.v1.common_pb2 import CONSISTENCY_STRONG
from tally.ingest.v1 import ingest_pb2 as pb
from tally.query.v1 import query_pb2
from tests.integration.services.api import TIMEOUT_S, Api, new_id

pytestmark = pytest.mark.asyncio(loop_scope="module")

WRITES = 150
WAYS: Mapping[str, Mapping[str, Any]] = {
    "total": {},
    "range": {"start_time": Timestamp(seconds=946_684_800)},
    "strong": {"consistency": CONSISTENCY_STRONG},
}


@pytest.fixture(scope="module")
def overrides() -> Mapping[str, Any]:
    """Flushes come often and totals are held shortly, so that many reads lie close to a change."""
    return {
        "counting": CountingSettings(flush=FlushSettings(interval_seconds=0.03)),
        "query": QuerySettings(hot=HotSettings(max_age_seconds=0.2)),
    }


def now_us() -> int:
    """Postgres runs on this machine, and has its clock."""
    return time.time_ns() // 1000


async def view(api: Api, video_id: str) -> None:
    """Count a view; returns when it is acknowledged."""
    request = pb.CountViewEventRequest(video_id=video_id, request_id=new_id())
    await api.ingest.CountViewEvent(request, timeout=TIMEOUT_S)


async def read(api: Api, video_id: str, way: str) -> tuple[int, int]:
    """The count, and as of when in microseconds."""
    request = query_pb2.GetViewsCountRequest(video_id=video_id, **WAYS[way])
    answer = await api.query.GetViewsCount(request, timeout=TIMEOUT_S)
    return answer.count, answer.as_of.ToMicroseconds()


@pytest.mark.parametrize("way", WAYS)
async def test_what_was_acknowledged_before_as_of_is_in_the_count(api: Api, way: str) -> None:
    video_id = f"as of {way}"
    acknowledged_at: list[int] = []
    sent = 0

    async def write() -> None:
        nonlocal sent
        for _ in range(WRITES):
            sent += 1
            await view(api, video_id)
            acknowledged_at.append(now_us())

    writing = asyncio.create_task(write())
    read_at_all = 0
    while not writing.done():
        count, as_of_us = await read(api, video_id, way)
        due = sum(at < as_of_us for at in acknowledged_at)
        assert due <= count <= sent
        read_at_all += count
    await writing
    assert read_at_all  # not all of them before the first flush


async def test_a_strong_read_is_as_of_its_call_or_later(api: Api) -> None:
    for n in range(1, 20):
        await view(api, "strong")
        asked_us = now_us()
        count, as_of_us = await read(api, "strong", "strong")
        assert count == n
        assert asked_us <= as_of_us <= now_us()


async def test_as_of_goes_on_when_all_is_flushed(api: Api) -> None:
    await view(api, "goes on")
    await api.flushed()
    asked_us = now_us()
    count, as_of_us = await read(api, "goes on", "range")
    assert count == 1
    assert asked_us <= as_of_us <= now_us()


async def test_while_an_entry_waits_for_its_flush_as_of_is_before_it(api: Api) -> None:
    # The flush cannot get in: somebody holds a row that it has to add to.
    video_id = "waits"
    await view(api, video_id)
    await api.flushed()
    async with api.database.transaction():
        await api.database.execute("select from counting.checkpoint for update")
        before_us = now_us()
        await view(api, video_id)
        acknowledged_us = now_us()
        (lagging, as_of_us), (strong, _) = (
            await read(api, video_id, "range"),
            await read(api, video_id, "strong"),
        )
        assert (lagging, strong) == (1, 2)
        assert before_us - 1_000_000 < as_of_us <= acknowledged_us
    await api.flushed()
    count, as_of_us = await read(api, video_id, "range")
    assert count == 2
    assert as_of_us > acknowledged_us
