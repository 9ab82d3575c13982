"""Replicas of the catalog that die, freeze and lag: none of them may show what a rule hides."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncpg

from tally.catalog.v1 import find_pb2
from tally.client import Client, RightsStale, TallyError
from tests.support.catalog import US, find, find_ids, prepare, rule, video
from tests.support.eventually import eventually
from tests.support.processes import ServiceProcess, run_service

_STALENESS_S = 2.0
_FAST = {"TALLY_CATALOG__RIGHTS__MAX_STALENESS_SECONDS": str(_STALENESS_S)}


@asynccontextmanager
async def open_replicas(
    dsn: str, valkey_url: str, folder: Path, count: int = 2
) -> AsyncIterator[Sequence[tuple[ServiceProcess, Client]]]:
    """Replicas in processes of their own, each with a client."""
    async with AsyncExitStack() as stack:
        replicas = []
        for _ in range(count):
            process = await stack.enter_async_context(
                run_service("catalog", dsn, valkey_url, folder, env=_FAST)
            )
            client = await stack.enter_async_context(Client(process.address, timeout=20.0))
            replicas.append((process, client))
        yield replicas


async def test_a_rule_hides_a_video_on_two_replicas_within_a_second(
    dsn: str, valkey_url: str, tmp_path: Path
) -> None:
    async with open_replicas(dsn, valkey_url, tmp_path) as ((_, first), (_, second)):
        catalog = await prepare(first)
        for number in (1, 2):
            change = (await catalog.put(f"{number}v", video(number))).version
        for client in (first, second):
            assert await find_ids(client, min_change=change) == ["2v", "1v"]
        began = time.monotonic()
        answer = await catalog.put_rules("2v", [rule(countries=["US"])])
        for client in (first, second):
            assert await find_ids(client) == ["1v"]
        assert time.monotonic() - began < 1
        assert answer.confirmed_replicas == 2
        assert await find_ids(second, viewer=US, page_size=1, total=True) == ["1v"]


async def test_a_frozen_replica_holds_up_a_rule_until_it_must_refuse_and_then_it_does(
    dsn: str, valkey_url: str, tmp_path: Path
) -> None:
    async with open_replicas(dsn, valkey_url, tmp_path) as ((_, first), (process, second)):
        catalog = await prepare(first)
        change = (await catalog.put("1v", video(1))).version
        assert await find_ids(second, min_change=change) == ["1v"]
        process.freeze()
        began = time.monotonic()
        answer = await catalog.put_rules("1v", [rule()])
        assert (answer.confirmed_replicas, answer.stale_replicas) == (1, 1)
        assert time.monotonic() - began > _STALENESS_S - 1
        # Swept meanwhile, as after an hour: the replica must notice that nobody waits for it.
        database = await asyncpg.connect(dsn)
        try:
            await database.execute(
                "delete from catalog.replica where asked_at < clock_timestamp() - interval '1 second'"
            )
        finally:
            await database.close()
        waiting = asyncio.ensure_future(find_ids_or_refusal(second))
        process.thaw()
        assert await waiting in ("RIGHTS_STALE", "UNAVAILABLE", [])

        async def is_back() -> bool:
            return await find_ids_or_refusal(second) == []

        await eventually(is_back)
        again = await catalog.put_rules("1v", [rule()])
        assert (again.change, again.changed, again.confirmed_replicas) == (answer.change, False, 2)


async def find_ids_or_refusal(client: Client) -> list[str] | str:
    """The ids that are shown, or the reason why none are."""
    try:
        return await find_ids(client)
    except RightsStale:
        return "RIGHTS_STALE"
    except TallyError as error:
        return error.reason


async def test_a_replica_that_was_killed_loses_nothing_and_its_successor_hides_from_the_first_answer(
    dsn: str, valkey_url: str, tmp_path: Path
) -> None:
    async with open_replicas(dsn, valkey_url, tmp_path) as ((_, first), (process, _)):
        catalog = await prepare(first)
        for number in range(1, 31):
            await catalog.put(f"{number}v", video(number, type="clips", views=number % 5))
        walk: list[str] = []
        page = find_pb2.FindResponse(has_more=True)
        process.kill()
        answer = await catalog.put_rules("30v", [rule()])
        assert (answer.confirmed_replicas, answer.stale_replicas) == (1, 1)
        async with (
            run_service("catalog", dsn, valkey_url, tmp_path, address=process.address, env=_FAST),
            Client(process.address, timeout=20.0) as third,
        ):
            while page.has_more:
                client = third if len(walk) % 2 else first
                page = await find(
                    client, "t:clips", sort="views", page_size=3, page_token=page.next_page_token, total=True
                )
                assert page.total == 29
                walk += [item.id for item in page.items]
        expected = sorted(range(1, 30), key=lambda number: (number % 5, number), reverse=True)
        assert walk == [f"{number}v" for number in expected]


async def test_without_postgres_finds_go_on_until_they_are_stale(
    dsn: str, valkey_url: str, tmp_path: Path
) -> None:
    async with open_replicas(dsn, valkey_url, tmp_path, count=1) as ((_, client),):
        catalog = await prepare(client)
        change = (await catalog.put("1v", video(1))).version
        assert await find_ids(client, min_change=change) == ["1v"]
        database = await asyncpg.connect(dsn)
        try:
            # Nobody gets through to the row, as when Postgres hangs.
            async with database.transaction():
                await database.execute("lock table catalog.replica in access exclusive mode")
                assert await find_ids(client) == ["1v"]

                async def refuses() -> bool:
                    return await find_ids_or_refusal(client) == "RIGHTS_STALE"

                await eventually(refuses)
        finally:
            await database.close()

        async def is_back() -> bool:
            return await find_ids_or_refusal(client) == ["1v"]

        await eventually(is_back)
