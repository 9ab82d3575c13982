"""Every contender counts a few thousand events exactly, and one that does not has no figure."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from loadtests.bench import door, echo, postgres_batch, valkey_hincrby, valkey_lua
from loadtests.bench.contender import Contender, Store
from loadtests.bench.counter import CountedByClient, Counter
from loadtests.bench.events import HOT, ZIPF, Request, make_events
from loadtests.bench.figures import Result
from loadtests.bench.postgres import make_tables
from loadtests.bench.rounds import Plan, run_group
from loadtests.bench.tally import Tally, connect
from loadtests.bench.valkey import open_durable_valkey
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


@pytest.fixture
async def tables(servers: Servers) -> AsyncIterator[str]:
    async with fresh_database(servers.postgres_dsn) as dsn:
        await make_tables(dsn)
        yield dsn


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
