"""Totals in Valkey: right when they are there, and missed by nobody when they are not."""

import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
import redis.asyncio as valkey

from libs.domain.cells import Cell
from libs.stores.schema import Cluster, migrate, read_cluster
from services.counting.settings import CountingSettings, FlushSettings
from services.migrations import list_migrations
from services.query.hot import AWAY, Hot, open_client
from services.query.settings import HotSettings
from services.query.warm import Reading
from tally.contract.breaker import Breaker
from tally.contract.errors import NotReady
from tally.ingest.v1 import ingest_pb2 as pb
from tally.query.v1 import query_pb2
from tests.integration.services.api import TIMEOUT_S, Api, new_id, open_api
from tests.support.eventually import eventually
from tests.support.rollups import count_of
from tests.support.servers import Breakable, Servers, breakable_valkey, fresh_database
from tests.support.stack import open_stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOW_US = 1_800_000_000_000_000
QUICK = {"counting": CountingSettings(flush=FlushSettings(interval_seconds=0.05))}


@pytest.fixture(scope="module")
def overrides() -> Mapping[str, Any]:
    return QUICK


@pytest_asyncio.fixture(loop_scope="module")
async def store(servers: Servers) -> AsyncIterator["valkey.Redis"]:
    """The Valkey of the shared stack."""
    async with valkey.from_url(servers.valkey_url) as client:
        yield client


async def count_views(api: Api, video_id: str, n: int) -> None:
    """Count views, and wait until they are in the rollups."""
    events = [pb.Event(video_id=video_id, event_type="view", value=1.5)] * n
    request = pb.ProcessEventsRequest(request_id=new_id(), events=events)
    await api.ingest.ProcessEvents(request, timeout=TIMEOUT_S)
    await api.flushed()


async def cached_count(api: Api, video_id: str) -> int:
    answer = await api.query.GetViewsCount(
        query_pb2.GetViewsCountRequest(video_id=video_id), timeout=TIMEOUT_S
    )
    count: int = answer.count
    return count


async def key_of(api: Api, video_id: str) -> str:
    cluster_id = await api.database.fetchval("select cluster_id from public.cluster")
    return f"tally:{cluster_id}:1:total:view:{video_id}"


def held(text: bytes | str | None) -> tuple[int, int, list[float]]:
    """What a value says: as of, count, and the rest."""
    assert text is not None
    return int(text[:20]), int(text[20:40]), json.loads(text[40:])


def value_of(as_of_us: int, count: int) -> str:
    return f"{as_of_us:020}{count:020}[0, 0.0, null, null, 0.0]"


async def test_a_total_that_was_read_is_held_for_2_seconds_and_equals_postgres(
    api: Api, store: "valkey.Redis"
) -> None:
    await count_views(api, "held", 3)
    assert await store.get(await key_of(api, "held")) is None
    before_us = time.time_ns() // 1000
    assert await cached_count(api, "held") == 3
    as_of_us, count, rest = held(await store.get(await key_of(api, "held")))
    assert (count, rest) == (3, [3, 4.5, 1.5, 1.5, 0.0])
    assert abs(as_of_us - before_us) < 2_000_000
    assert 0 < await store.pttl(await key_of(api, "held")) <= 2000
    assert count == await count_of(api.database, "held")


async def test_a_total_that_is_held_is_the_answer(api: Api, store: "valkey.Redis") -> None:
    await count_views(api, "answer", 1)
    now_us = time.time_ns() // 1000
    await store.set(await key_of(api, "answer"), value_of(now_us, 77))  # nobody but Valkey says so
    answer = await api.query.GetViewsCount(
        query_pb2.GetViewsCountRequest(video_id="answer"), timeout=TIMEOUT_S
    )
    assert (answer.count, answer.as_of.ToMicroseconds()) == (77, now_us)


@pytest.mark.parametrize("ahead_seconds", [3600, 2, -3], ids="{:+} s".format)
async def test_a_total_is_not_the_answer_when_its_as_of_is_too_old_or_ahead(
    api: Api, store: "valkey.Redis", ahead_seconds: int
) -> None:
    video_id = f"implausible {ahead_seconds}"
    await count_views(api, video_id, 1)
    await store.set(
        await key_of(api, video_id), value_of(time.time_ns() // 1000 + ahead_seconds * 1_000_000, 77)
    )
    assert await cached_count(api, video_id) == 1


async def test_ranges_and_strong_reads_do_not_ask_valkey(api: Api, store: "valkey.Redis") -> None:
    await count_views(api, "not asked", 1)
    await store.set(await key_of(api, "not asked"), value_of(time.time_ns() // 1000, 77))
    assert await api.count("not asked") == 1
    request = query_pb2.GetViewsCountRequest(video_id="not asked")
    request.start_time.seconds = 946_684_800
    assert (await api.query.GetViewsCount(request, timeout=TIMEOUT_S)).count == 1


async def test_a_wiped_valkey_changes_no_answer(api: Api, store: "valkey.Redis") -> None:
    for n in range(1, 4):
        await count_views(api, "wiped", 1)
        await store.flushall()
        assert await cached_count(api, "wiped") == n


async def test_of_one_video_and_type_only_its_own_total_is_held(api: Api, store: "valkey.Redis") -> None:
    await count_views(api, "own:a", 2)
    assert await cached_count(api, "own:a") == 2
    assert await cached_count(api, "own") == 0
    assert [held(await store.get(await key_of(api, video_id)))[1] for video_id in ("own:a", "own")] == [2, 0]


@asynccontextmanager
async def open_hot(
    url: str, *, cluster_id: int = 1, epoch: int = 1, settings: HotSettings | None = None
) -> AsyncIterator[Hot]:
    """With a Postgres whose clock has stopped."""

    class Clock:
        def monotonic(self) -> float:
            return time.monotonic()

        def now_us(self) -> int:
            return NOW_US

    settings = settings or HotSettings()

    breaker = Breaker(
        "Valkey",
        failures=5,
        reset_after_s=1,
        is_failure=lambda error: isinstance(error, AWAY),
        now=time.monotonic,
        on_change=lambda *_: None,
    )
    async with open_client(url, settings) as client:
        cluster = Cluster(uuid.UUID(int=cluster_id), 4, epoch)
        yield Hot(client, breaker, cluster, settings, Clock())


async def put(hot: Hot, video_id: str, reading: Reading) -> None:
    """Offer a total as a reader does that has just looked it up."""
    await hot.put(video_id, "view", reading, await hot.get(video_id, "view"))


async def get(hot: Hot, video_id: str) -> Reading | None:
    return (await hot.get(video_id, "view")).reading


def reading(count: int, as_of_us: int = NOW_US) -> Reading:
    return Reading(Cell(count, value_count=2, sum=0.1 + 0.2, min=-1e-300, max=2.0**53, m2=1 / 3), as_of_us)


async def test_what_was_put_is_what_is_got_to_the_last_digit(servers: Servers) -> None:
    async with open_hot(servers.valkey_url) as hot:
        for kept in (reading(7), Reading(Cell(9), NOW_US)):
            video_id = f"digits {kept.cell.count}"
            await put(hot, video_id, kept)
            assert await get(hot, video_id) == kept


async def test_an_older_total_never_takes_the_place_of_a_newer_one(servers: Servers) -> None:
    async with open_hot(servers.valkey_url) as hot:
        for as_of_us, count, wins in (
            (NOW_US, 10, True),
            (NOW_US - 1, 11, False),  # late: it was read before, whatever it says
            (NOW_US, 9, False),
            (NOW_US, 12, True),
            (NOW_US + 1, 8, True),
        ):
            await put(hot, "newer", reading(count, as_of_us))
            assert (await get(hot, "newer") == reading(count, as_of_us)) is wins


async def test_a_total_that_is_too_old_already_is_not_held(servers: Servers) -> None:
    async with open_hot(servers.valkey_url) as hot:
        await put(hot, "too old", reading(1, NOW_US - 2_000_000))
        assert await get(hot, "too old") is None
        await put(hot, "too old", reading(1, NOW_US - 1_000_000))
        assert await get(hot, "too old") is not None


async def test_a_total_expires_2_seconds_after_its_look_up_however_far_ahead_its_as_of_is(
    servers: Servers, store: "valkey.Redis"
) -> None:
    async with open_hot(servers.valkey_url) as hot:
        for ahead_us, most_ms in ((0, 2000), (900_000, 2000), (-1_500_000, 500)):
            await put(hot, f"ahead {ahead_us}", reading(1, NOW_US + ahead_us))
            key = f"tally:{uuid.UUID(int=1)}:1:total:view:ahead {ahead_us}"
            assert most_ms - 400 < await store.pttl(key) <= most_ms
        await put(hot, "an hour ahead", reading(1, NOW_US + 3_600_000_000))
        assert await get(hot, "an hour ahead") is None


async def test_a_fill_that_is_executed_after_its_expiry_sets_nothing(
    store: "valkey.Redis", servers: Servers
) -> None:
    async with open_hot(servers.valkey_url, settings=HotSettings(max_age_seconds=0.05)) as hot:
        held = await hot.get("late", "view")
        seconds, micros = await store.time()

        async def is_later() -> bool:
            now = await store.time()
            return bool((now[0] - seconds) * 1_000_000 + now[1] - micros > 100_000)

        await eventually(is_later)  # a frozen Valkey executes what it was sent when it goes on
        await hot.put("late", "view", reading(7), held)
        assert await get(hot, "late") is None


@pytest.mark.parametrize("changed", [{"epoch": 2}, {"cluster_id": 2}], ids=str)
async def test_another_epoch_or_cluster_holds_other_totals(
    servers: Servers, changed: Mapping[str, Any]
) -> None:
    async with open_hot(servers.valkey_url) as one, open_hot(servers.valkey_url, **changed) as other:
        await put(one, "apart", reading(5))
        assert await get(other, "apart") is None


async def test_two_clusters_on_one_valkey_have_names_of_their_own(servers: Servers) -> None:
    found = []
    for _ in range(2):
        async with fresh_database(servers.postgres_dsn) as dsn, asyncpg.create_pool(dsn, min_size=1) as pool:
            async with pool.acquire() as connection:
                created = await migrate(connection, 4, list_migrations())
            assert await read_cluster(pool, 4, list_migrations()) == created
            found.append(created.cluster_id)
    assert found[0] != found[1]


@pytest_asyncio.fixture(loop_scope="module")
async def breakable() -> AsyncIterator[Breakable]:
    async with breakable_valkey() as server:
        yield server


async def test_without_valkey_every_read_is_answered_and_totals_are_held_again_when_it_is_back(
    breakable: Breakable, dsn_of_test: str, tmp_path: Path
) -> None:
    async with (
        open_stack(dsn_of_test, breakable.url, tmp_path, overrides=QUICK) as stack,
        open_api(stack) as api,
    ):
        await count_views(api, "away", 2)
        assert await cached_count(api, "away") == 2
        breakable.kill()
        for n in range(8):  # more than the breaker takes to open
            assert await cached_count(api, f"away {n}") == 0
        await count_views(api, "away", 1)
        assert await cached_count(api, "away") == 3
        assert await api.count("away") == 3
        await breakable.start()
        async with valkey.from_url(breakable.url) as client:

            async def is_held_again() -> bool:
                assert await cached_count(api, "away") == 3
                return await client.get(await key_of(api, "away")) is not None

            await eventually(is_held_again)


async def test_a_valkey_that_hangs_delays_a_read_by_its_time_out_and_no_more(
    breakable: Breakable, dsn_of_test: str, tmp_path: Path
) -> None:
    async with (
        open_stack(dsn_of_test, breakable.url, tmp_path, overrides=QUICK) as stack,
        open_api(stack) as api,
    ):
        await count_views(api, "hangs", 2)
        breakable.freeze()
        try:
            started = time.monotonic()
            assert [await cached_count(api, "hangs") for _ in range(20)] == [2] * 20
            # 5 time-outs of 0.1 s until the breaker opens, then one a second
            assert time.monotonic() - started < 5
        finally:
            breakable.thaw()


async def test_a_url_that_is_none_is_not_ready() -> None:
    with pytest.raises(NotReady, match="TALLY_VALKEY__URL cannot be used"):
        open_client("nonsense", HotSettings())
