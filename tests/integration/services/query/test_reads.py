"""Counts and statistics against a list of the events: before they are flushed, and after."""

import math
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from services.counting.settings import CountingSettings, FlushSettings
from tally.ingest.v1 import ingest_pb2 as pb
from tally.query.v1 import query_pb2
from tests.integration.services.api import TIMEOUT_S, Api, new_id, refused
from tests.support.rollups import count_of
from tests.unit.libs.domain.batches import Row

pytestmark = pytest.mark.asyncio(loop_scope="module")

MINUTE_S = 60
START_S = 1_700_000_000 // MINUTE_S * MINUTE_S
Y2000_S = 946_684_800


@pytest.fixture(scope="module", params=["pending", "flushed"])
def way(request: pytest.FixtureRequest) -> str:
    """Each test reads twice: from the journal, where nothing is flushed, and from the rollups alone."""
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def overrides(way: str) -> Mapping[str, Any]:
    return {
        "counting": CountingSettings(flush=FlushSettings(interval_seconds=30 if way == "pending" else 0.05))
    }


@dataclass(frozen=True, slots=True)
class Reads:
    """Reads in one of the ways."""

    api: Api
    consistency: str
    """by its name in the proto"""

    async def send(self, *events: pb.Event) -> None:
        """Count events, and see to it that they are where they are to be read."""
        request = pb.ProcessEventsRequest(request_id=new_id(), events=events)
        answer = await self.api.ingest.ProcessEvents(request, timeout=TIMEOUT_S)
        assert answer.receipt.accepted_count == len(events)
        if self.consistency == "CONSISTENCY_CACHED":
            await self.api.flushed()

    async def count(self, video_id: str, start: Any = None, end: Any = None, event_type: str = "view") -> int:
        """The events in a range of seconds or Timestamps."""
        request = query_pb2.GetCountRequest(
            video_id=video_id,
            event_type=event_type,
            start_time=_timestamp(start),
            end_time=_timestamp(end),
            consistency=self.consistency,
        )
        answer = await self.api.query.GetCount(request, timeout=TIMEOUT_S)
        count: int = answer.count
        return count

    async def stats(
        self, video_id: str, function: str, start: Any = None, end: Any = None
    ) -> tuple[float | None, int]:
        """The aggregate, None where it is absent, and the count beside it."""
        request = query_pb2.GetStatsRequest(
            video_id=video_id,
            event_type="watched",
            function=f"FUNCTION_{function}",
            start_time=_timestamp(start),
            end_time=_timestamp(end),
            consistency=self.consistency,
        )
        answer = await self.api.query.GetStats(request, timeout=TIMEOUT_S)
        return answer.value if answer.HasField("value") else None, answer.count


def _timestamp(time: float | Timestamp | None) -> Timestamp | None:
    if time is None or isinstance(time, Timestamp):
        return time
    seconds = math.floor(time)
    return Timestamp(seconds=seconds, nanos=round((time - seconds) * 1e6) * 1000)


def event(video_id: str, time: float | None = None, event_type: str = "view", **fields: Any) -> pb.Event:
    return pb.Event(video_id=video_id, event_type=event_type, event_time=_timestamp(time), **fields)


def watched(video_id: str, *values: float | None) -> Sequence[pb.Event]:
    return [event(video_id, event_type="watched", value=value) for value in values]


@pytest.fixture
def reads(api: Api, way: str) -> Reads:
    return Reads(api, "CONSISTENCY_STRONG" if way == "pending" else "CONSISTENCY_CACHED")


async def test_what_the_tests_read_is_where_they_think(reads: Reads, way: str) -> None:
    await reads.send(event("where"))  # the first entry of its log
    assert await reads.count("where") == 1
    assert await count_of(reads.api.database, "where") == (0 if way == "pending" else 1)


async def test_each_function_over_values(reads: Reads) -> None:
    await reads.send(*watched("values", 2, 4, 4, 4, 5, 5, 7, 9, None, None))
    expected = {
        "UNSPECIFIED": (10, 10),
        "COUNT": (10, 10),
        "SUM": (40, 8),
        "AVERAGE": (5, 8),
        "MIN": (2, 8),
        "MAX": (9, 8),
        "STDDEV": (2, 8),  # of the population; of a sample it would be 2.14
    }
    assert {function: await reads.stats("values", function) for function in expected} == expected


async def test_values_far_from_zero_keep_their_deviation(reads: Reads) -> None:
    values = [1e9 + tiny for tiny in (0.1, 0.5, 0.9, 0.3, 0.7)] * 2
    for value in values:  # one request each, so that they are merged and not only added up
        await reads.send(*watched("far from zero", value))
    deviation, count = await reads.stats("far from zero", "STDDEV")
    assert count == 10
    assert deviation == pytest.approx(math.sqrt(0.08), rel=1e-6)


async def test_without_values_the_aggregate_is_absent_and_the_count_0(reads: Reads) -> None:
    await reads.send(*watched("no values", None, None))
    for function in ("SUM", "AVERAGE", "MIN", "MAX", "STDDEV"):
        assert await reads.stats("no values", function) == (None, 0)
        assert await reads.stats("never seen", function) == (None, 0)
    assert await reads.stats("no values", "COUNT") == (2, 2)
    assert await reads.stats("never seen", "COUNT") == (0, 0)


async def test_a_value_of_0_is_a_value(reads: Reads) -> None:
    await reads.send(*watched("zero", 0.0, None))
    for function in ("SUM", "AVERAGE", "MIN", "MAX", "STDDEV"):
        assert await reads.stats("zero", function) == (0.0, 1)


async def test_every_value_feeds_every_statistic_whatever_its_event_says(reads: Reads) -> None:
    await reads.send(
        event("whatever", event_type="watched", value=1, function="FUNCTION_MAX"),
        event("whatever", event_type="watched", value=3, function="FUNCTION_COUNT"),
        event("whatever", event_type="watched", actor_id="x", function="FUNCTION_DISTINCT"),
    )
    assert await reads.stats("whatever", "SUM") == (4, 2)
    assert await reads.stats("whatever", "COUNT") == (3, 3)


async def test_sums_of_the_largest_integers_are_exact(reads: Reads) -> None:
    await reads.send(*watched("large", 2.0**53 - 1, 1.0, -(2.0**53), 7.0))
    assert await reads.stats("large", "SUM") == (7.0, 4)
    assert await reads.stats("large", "MIN") == (-(2.0**53), 4)


async def test_types_videos_and_actors_are_kept_apart(reads: Reads) -> None:
    await reads.send(
        event("apart"), event("apart", event_type="like"), event("Apart"), event("apart", actor_id="x")
    )
    assert await reads.count("apart") == 2
    assert await reads.count("apart", event_type="like") == 1
    assert await reads.count("Apart") == 1
    assert await reads.count("apart ") == 0


async def test_an_id_in_another_script_is_counted_like_any(reads: Reads) -> None:
    for video_id in ("日本の動画", "e\u0301", "\u00e9", "'; drop table log; --", "🎬" * 32):
        await reads.send(event(video_id))
        assert await reads.count(video_id) == 1


async def test_ranges_are_half_open_and_taken_down_to_the_minute(reads: Reads) -> None:
    await reads.send(*(event("edges", START_S + offset) for offset in (0, 59.999999, 60, 119, 120)))
    for start, end, expected in (
        (START_S, START_S + 60, 2),
        (START_S + 59.999999, START_S + 60, 2),
        (START_S + 60, START_S + 119.999999, 0),  # both are of one minute
        (START_S + 60, START_S + 120, 2),
        (START_S, START_S + 121, 4),
        (START_S, START_S + 180, 5),
        (START_S + 61, None, 3),
        (None, START_S + 119, 2),
        (None, None, 5),
        (START_S, START_S, 0),
        (START_S + 10, START_S + 10, 0),
        (START_S - 60, START_S, 0),
        (START_S + 180, None, 0),
    ):
        assert await reads.count("edges", start, end) == expected, (start, end)


async def test_a_start_before_2000_is_unbounded_and_an_end_before_it_holds_nothing(reads: Reads) -> None:
    await reads.send(event("oldest", Y2000_S), event("oldest"))
    assert await reads.count("oldest", Y2000_S - 1, None) == 2
    assert await reads.count("oldest", -5_000_000_000, Y2000_S + 60) == 1
    assert await reads.count("oldest", -5_000_000_000, Y2000_S - 1) == 0
    assert await reads.count("oldest", None, Y2000_S) == 0
    assert await reads.count("oldest", Y2000_S, Y2000_S + 60) == 1


@pytest.mark.parametrize("seconds", [253_402_300_799, 2**62])
async def test_bounds_beyond_all_time_are_bounds(reads: Reads, seconds: int) -> None:
    video_id = f"beyond {seconds}"
    await reads.send(event(video_id))
    far, long_ago = Timestamp(seconds=seconds), Timestamp(seconds=-seconds)
    assert await reads.count(video_id, None, far) == 1
    assert await reads.count(video_id, far, None) == 0
    assert await reads.count(video_id, far, far) == 0
    assert await reads.count(video_id, long_ago, far) == 1
    assert await reads.count(video_id, long_ago, long_ago) == 0
    assert await reads.count(video_id, None, long_ago) == 0


async def test_a_start_after_the_end_is_refused(reads: Reads) -> None:
    request = query_pb2.GetViewsCountRequest(
        video_id="order",
        start_time=Timestamp(seconds=START_S, nanos=1000),
        end_time=Timestamp(seconds=START_S),
        consistency=reads.consistency,
    )
    refusal = await refused(reads.api.query.GetViewsCount(request, timeout=TIMEOUT_S))
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["start_time"])


async def test_adjacent_ranges_add_up_whatever_the_events(reads: Reads) -> None:
    chance = random.Random(20)
    rows = [
        Row(
            video_id=chance.choice(["sum 1", "sum 2", "sum 3"]),
            event_type="watched",
            time_us=round((START_S + chance.uniform(0, 3600)) * 1e6),
            value=chance.choice([None, chance.uniform(-100, 100), float(chance.randint(0, 50))]),
        )
        for _ in range(600)
    ]
    for part in range(0, 600, 150):
        await reads.send(
            *(
                event(row.video_id, (row.time_us or 0) / 1e6, row.event_type, value=row.value)
                for row in rows[part : part + 150]
            )
        )
    cuts = [None, *sorted(START_S + chance.uniform(0, 3600) for _ in range(5)), None]
    for video_id in ("sum 1", "sum 2", "sum 3"):
        whole = await reads.count(video_id, event_type="watched")
        parts = [await reads.count(video_id, start, end, "watched") for start, end in pairwise(cuts)]
        assert whole == sum(parts) == sum(row.video_id == video_id for row in rows)
        for start, end in ((START_S, START_S + 900), (START_S + 930, START_S + 2700)):
            held = [
                row.value
                for row in rows
                if row.video_id == video_id
                and row.value is not None
                and start // 60 <= (row.time_us or 0) // 60_000_000 < end // 60
            ]
            for function, value in (
                ("SUM", math.fsum(held)),
                ("AVERAGE", statistics.fmean(held)),
                ("MIN", min(held)),
                ("MAX", max(held)),
                ("STDDEV", statistics.pstdev(held)),
            ):
                found, count = await reads.stats(video_id, function, start, end)
                assert count == len(held)
                assert found == pytest.approx(value, rel=1e-9)


async def test_an_event_without_a_time_is_of_the_minute_of_its_receipt(reads: Reads) -> None:
    before_us = await reads.api.database.fetchval(
        "select (extract(epoch from clock_timestamp()) * 1000000)::bigint"
    )
    await reads.send(event("now"), event("now", START_S))
    minute_s = before_us // 60_000_000 * MINUTE_S
    assert await reads.count("now", minute_s, minute_s + 2 * MINUTE_S) == 1
    assert await reads.count("now", None, minute_s) == 1


async def test_views_are_counts_of_view_events(reads: Reads) -> None:
    await reads.send(event("views"), event("views"), event("views", event_type="like"))
    request = query_pb2.GetViewsCountRequest(
        video_id="views",
        consistency=reads.consistency,
    )
    assert (await reads.api.query.GetViewsCount(request, timeout=TIMEOUT_S)).count == 2
