"""Reads that find very much: they are answered, and hold up nobody but each other."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp

from services.counting.settings import CountingSettings, FlushSettings
from services.query.settings import AuditSettings, HeavySettings, HotSettings, QuerySettings
from tally.common.v1.common_pb2 import CONSISTENCY_STRONG
from tally.ingest.v1 import ingest_pb2 as pb
from tally.query.v1 import query_pb2
from tests.integration.services.api import TIMEOUT_S, Api, new_id, refused
from tests.support.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

MINUTES = 500
POOL = 8
"""connections that reads share; the lane has one"""
_INSERT = """
insert into counting.rollup_row (generation, video_id, event_type, minute, count, value_count, sum, min, max)
select 1, $1, 'view', 28000000 + n, 1, 1, n, n, n from generate_series(0, $2::int - 1) as n"""
# Evaluated for each row that has values; a heavy read waits in it for whoever holds the lock.
_SLOW = """
create or replace function counting.mean_of(total double precision, n bigint) returns double precision volatile
language plpgsql as $$ begin
    perform pg_advisory_xact_lock_shared(77);
    return total / n;
end $$"""
_WAITERS = """
select count(*) from pg_stat_activity
where wait_event_type = 'Lock' and datname = current_database() and application_name = $1"""
HEAVY, AUDITS = "tally query heavy reads", "tally query audits"


@pytest.fixture(scope="module")
def overrides() -> Mapping[str, Any]:
    """Nothing is flushed; of each lane one read is under way, and one waits."""
    heavy = HeavySettings(
        min_cells=100,
        min_pending_events=20,
        max_pending_events=60,
        connections=1,
        max_waiting=1,
        timeout_seconds=3,
    )
    return {
        "counting": CountingSettings(flush=FlushSettings(interval_seconds=30)),
        "query": QuerySettings(
            heavy=heavy,
            audit=AuditSettings(max_waiting=1, timeout_seconds=30),
            hot=HotSettings(max_age_seconds=0.001),
        ),
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def rows(api: Api) -> None:
    await api.database.execute(_INSERT, "long", MINUTES)
    await api.database.execute(_INSERT, "short", 100)
    await api.database.execute(_SLOW)


async def total(api: Api, video_id: str) -> int:
    answer = await api.query.GetViewsCount(
        query_pb2.GetViewsCountRequest(video_id=video_id), timeout=TIMEOUT_S
    )
    count: int = answer.count
    return count


async def audit(api: Api) -> Any:
    return await api.query.Audit(query_pb2.AuditRequest(), timeout=TIMEOUT_S)


@asynccontextmanager
async def blocked(api: Api, lock: str) -> AsyncIterator[None]:
    async with api.database.transaction():
        await api.database.execute(lock)
        yield


async def waits(api: Api, name: str) -> None:
    async def is_waiting() -> bool:
        await api.database.execute(
            "select pg_stat_clear_snapshot()"
        )  # else a transaction sees the first one again
        return bool(await api.database.fetchval(_WAITERS, name))

    await eventually(is_waiting)


async def ended(tasks: list["asyncio.Task[Any]"], count: int) -> None:
    async def have_ended() -> bool:
        return sum(task.done() for task in tasks) >= count

    await eventually(have_ended)


async def test_a_heavy_read_is_answered_as_any_other(api: Api) -> None:
    assert await total(api, "long") == MINUTES
    assert await api.count("long") == MINUTES
    assert await api.count("long", start_time=Timestamp(seconds=28000100 * 60)) == MINUTES - 100
    request = query_pb2.GetStatsRequest(video_id="long", event_type="view", function="FUNCTION_STDDEV")
    answer = await api.query.GetStats(request, timeout=TIMEOUT_S)
    assert answer.value == pytest.approx(((MINUTES**2 - 1) / 12) ** 0.5)


async def test_heavy_reads_that_do_not_end_hold_up_no_other_and_those_beyond_the_lane_are_refused(
    api: Api,
) -> None:
    async with blocked(api, "select pg_advisory_xact_lock(77)"):
        reads = [asyncio.create_task(total(api, "long")) for _ in range(2 * POOL)]
        await waits(api, HEAVY)
        await ended(reads, 2 * POOL - 2)
        assert await total(api, "none") == 0
        assert await api.count("none") == 0
    answers = await asyncio.gather(*reads, return_exceptions=True)
    assert answers.count(MINUTES) == 2
    refusals = [await refused(_raise(error)) for error in answers if isinstance(error, Exception)]
    assert {(each.code, each.reason) for each in refusals} == {
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    }
    assert all("narrower range" in each.message for each in refusals)


async def test_a_heavy_read_that_takes_too_long_is_cancelled_and_says_what_to_do(api: Api) -> None:
    async with blocked(api, "select pg_advisory_xact_lock(77)"):
        refusal = await refused(total(api, "long"))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "READ_TOO_LARGE")
    assert "narrower range" in refusal.message
    assert "statement timeout" in refusal.message
    assert await total(api, "long") == MINUTES


async def test_audits_hold_up_no_read_and_those_beyond_the_lane_are_refused(api: Api) -> None:
    async with blocked(api, "lock table counting.dead_letter in access exclusive mode"):
        audits = [asyncio.create_task(audit(api)) for _ in range(POOL + 2)]
        await waits(api, AUDITS)
        await ended(audits, POOL)
        assert await total(api, "none") == 0
    answers = await asyncio.gather(*audits, return_exceptions=True)
    assert sum(isinstance(answer, query_pb2.AuditResponse) for answer in answers) == 2


async def test_a_strong_read_with_much_pending_is_answered_up_to_a_bound(api: Api) -> None:
    async def send(n: int) -> None:
        events = [pb.Event(video_id="pending", event_type="view")] * n
        request = pb.ProcessEventsRequest(request_id=new_id(), events=events)
        await api.ingest.ProcessEvents(request, timeout=TIMEOUT_S)

    await send(50)  # more than a light read may find
    assert await api.count("pending") == 50
    await send(50)  # more than any
    request = query_pb2.GetViewsCountRequest(video_id="pending", consistency=CONSISTENCY_STRONG)
    refusal = await refused(api.query.GetViewsCount(request, timeout=TIMEOUT_S))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert refusal.message.startswith("100 events")
    assert await total(api, "pending") == 0


async def _raise(error: BaseException) -> None:
    raise error
