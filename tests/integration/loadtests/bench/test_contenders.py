"""Every contender counts a few thousand events exactly, and one that does not has no figure."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from loadtests.bench import door, echo, postgres_batch, postgres_single, valkey_hincrby, valkey_lua
from loadtests.bench.batched import TallyBatched
from loadtests.bench.contender import Contender, Store
from loadtests.bench.counter import CountedByClient, Counter
from loadtests.bench.events import HOT, ZIPF, Cursor, Pairs, Request, make_events
from loadtests.bench.figures import Result
from loadtests.bench.measure import send_closed
from loadtests.bench.oracle import find_fault
from loadtests.bench.postgres import make_tables
from loadtests.bench.rounds import Plan, run_group
from loadtests.bench.rows import TallyRows
from loadtests.bench.single import TallySingle
from loadtests.bench.split import open_services
from loadtests.bench.tally import Make, Tally, connect, open_tally
from loadtests.bench.valkey import open_durable_valkey
from tally.client._delivery.transport import TransportName
from tests.support.database import PARTITION_COUNT
from tests.support.servers import Servers, fresh_database
from tests.support.stack import Stack

pytestmark = pytest.mark.long

PLAN = Plan(events=1_000, rounds=2, round_seconds=5.0, ramp_seconds=0.02, open_seconds=0.1)
EVENTS = {mix.name: make_events(PLAN.events, mix, PLAN.seed) for mix in (ZIPF, HOT)}

Open = Callable[[Path], AbstractAsyncContextManager[Store]]


async def run(folder: Path, *contenders: Contender) -> list[Result]:
    """A whole group with a small plan."""
    told: list[str] = []
    results = await run_group(contenders, EVENTS, PLAN, folder, told.append)
    assert any("round 2 of 2" in line for line in told) or any(result.fault for result in results)
    return results


def assert_measured(result: Result) -> None:
    assert result.fault is None, f"{result.name}: {result.fault}"
    assert len(result.rounds) == 2
    assert result.events_per_s > 0
    assert result.latencies_s
    assert result.in_flight


@asynccontextmanager
async def open_counted(counter: AbstractAsyncContextManager[Counter]) -> AsyncIterator[Store]:
    async with counter as opened:
        yield CountedByClient(opened)


async def test_stores_side_by_side_are_exact_and_measured(stack: Stack, tables: str, tmp_path: Path) -> None:
    contenders = [
        Contender("tally-columns-100", 100, lambda _: connect(stack.address, stack.dsn, Tally)),
        Contender("valkey-lua-100", 100, valkey_lua.open_valkey_lua),
        Contender("valkey-lua-door-100", 100, door.open_door_to_valkey),
        Contender("valkey-hincrby-100", 100, valkey_hincrby.open_valkey_hincrby),
        Contender("postgres-batch-100", 100, lambda _: open_counted(postgres_batch.open_counter(tables))),
        Contender("echo-1", 1, echo.open_echo),
    ]
    folder = tmp_path / "bench"
    folder.mkdir()
    results = await run(folder, *contenders)
    for result in results:
        assert_measured(result)
    assert results[0].observations.keys() == {"flush_interval_s", "lag_p50_s", "lag_max_s"}
    assert sum(each.server_cpu_seconds for result in results for each in result.rounds) > 0
    assert all(result.memory_bytes > 1_000_000 for result in results[1:4])  # those with servers of their own
    assert all(result.disk_bytes_per_million > 0 for result in results[1:4])
    assert not list(folder.iterdir())


@pytest.mark.timeout(300)
async def test_tally_as_it_ships_is_exact_when_one_video_is_hot(tmp_path: Path) -> None:
    (result,) = await run(tmp_path, Contender("tally-hot-100", 100, open_tally, mix=HOT))
    assert_measured(result)
    assert result.memory_bytes > 50_000_000
    assert sum(each.server_cpu_seconds for each in result.rounds) > 0


@pytest.mark.parametrize(
    ("make", "transport", "request_events"),
    [
        (Tally, "unary", 200),
        (Tally, "stream", 200),
        (Tally, "direct", 200),
        (TallyRows, "unary", 200),
        (TallyBatched, "unary", 200),
        (TallySingle, "unary", 1),
    ],
)
async def test_each_way_into_tally_is_exact(
    stack: Stack, make: Make, transport: TransportName, request_events: int
) -> None:
    cursor = Cursor(EVENTS["zipf"], request_events)
    async with connect(stack.address, stack.dsn, make, transport) as store:
        await send_closed(store, cursor.take_up_to(request_events * 3), 3, seconds=60.0)
        await store.settle()
        assert await store.find_fault(lambda counts: find_fault(cursor, counts)) is None
        cursor.taken -= 1  # as if the last event had been counted without being sent
        assert "not exact" in str(await store.find_fault(lambda counts: find_fault(cursor, counts)))


@pytest.mark.timeout(300)
async def test_tally_in_processes_of_its_own_is_exact(dsn: str, valkey_url: str, tmp_path: Path) -> None:
    cursor = Cursor(EVENTS["zipf"], 500)
    async with open_services(tmp_path, 1, dsn, valkey_url, PARTITION_COUNT, Tally) as store:
        await send_closed(store, cursor.take_up_to(2_000), 4, seconds=60.0)
        await store.settle()
        assert await store.find_fault(lambda counts: find_fault(cursor, counts)) is None


@pytest.fixture
async def tables(servers: Servers) -> AsyncIterator[str]:
    async with fresh_database(servers.postgres_dsn) as dsn:
        await make_tables(dsn)
        yield dsn


async def test_one_upsert_an_event_is_exact(tables: str) -> None:
    cursor = Cursor(EVENTS["zipf"], 1)
    async with postgres_single.open_client(tables) as store:
        await send_closed(store, cursor.take_up_to(300), 32, seconds=60.0)
        assert await store.find_fault(lambda counts: find_fault(cursor, counts)) is None


@pytest.fixture(params=["valkey", "postgres"])
async def counter(request: pytest.FixtureRequest, tables: str, tmp_path: Path) -> AsyncIterator[Counter]:
    """Each peer that drops repeated requests."""
    if request.param == "postgres":
        async with postgres_batch.open_counter(tables) as opened:
            yield opened
        return
    async with open_durable_valkey(tmp_path) as url, valkey_lua.open_counter(url) as opened:
        yield opened


async def test_a_peer_with_request_ids_counts_a_request_once(counter: Counter) -> None:
    pairs = Pairs(["b", "a"], ["view", "like"], [3, 4])
    assert await counter.add("0192d0b0-0000-7000-8000-000000000001", pairs)
    assert not await counter.add("0192d0b0-0000-7000-8000-000000000001", pairs)
    assert await counter.add("0192d0b0-0000-7000-8000-000000000002", Pairs(["a"], ["like"], [1]))
    counts = await counter.counts()
    found = zip(counts.video_ids, counts.event_types, counts.counts, strict=True)
    assert sorted(found) == [("a", "like", 5), ("b", "view", 3)]


class Losing(CountedByClient):
    """Acknowledges the second request, and forgets one event of it."""

    _sent = 0

    async def send(self, request: Request) -> None:
        self._sent += 1
        if self._sent == 2:
            request = Request(request.video[1:], request.event_type[1:], request.video_ids)
        await super().send(request)


class Doubling(CountedByClient):
    """Counts the first event of the second request again, under another id."""

    _sent = 0

    async def send(self, request: Request) -> None:
        await super().send(request)
        self._sent += 1
        if self._sent == 2:
            await super().send(Request(request.video[:1], request.event_type[:1], request.video_ids))


class Failing(CountedByClient):
    """Does not acknowledge the second request."""

    _sent = 0

    async def send(self, request: Request) -> None:
        self._sent += 1
        if self._sent == 2:
            raise ConnectionError("it is gone")
        await super().send(request)


def open_as(kind: type[CountedByClient]) -> Open:
    @asynccontextmanager
    async def open_broken(folder: Path) -> AsyncIterator[Store]:
        async with open_durable_valkey(folder / "valkey") as url, valkey_lua.open_counter(url) as counter:
            yield kind(counter)

    return open_broken


async def test_a_contender_that_is_wrong_has_a_fault_and_the_others_go_on(tmp_path: Path) -> None:
    kinds = (Losing, Doubling, Failing, CountedByClient)
    results = await run(tmp_path, *(Contender(kind.__name__, 100, open_as(kind)) for kind in kinds))
    losing, doubling, failing, right = results
    sent = 2_000  # and what warmed up
    assert "1 counts are wrong" in str(losing.fault)
    assert "1 counts are wrong" in str(doubling.fault)
    assert failing.fault == "ConnectionError: it is gone"
    assert not failing.rounds
    assert_measured(right)
    assert sum(each.events for each in right.rounds) == sent
    assert {path.name for path in tmp_path.iterdir()} == {
        f"bench-{kind.__name__}-valkey.log" for kind in (Losing, Doubling, Failing)
    }
