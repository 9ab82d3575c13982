"""The floor: when an open log has one, nothing below it is on its way into the journal any more."""

import asyncio
from typing import Any

import pytest

from libs.domain.horizon import floor_at
from libs.domain.request_id import make_request_id, time_ms_of
from libs.stores import floor
from libs.stores.postgres import PostgresSettings, WriteConnection
from services.counting.entry import NumberedEntry
from services.counting.journal import Journal
from services.counting.log import open_log
from tests.support.entries import as_entry, cut_request, new_id
from tests.support.eventually import eventually
from tests.support.proof import open_proof
from tests.support.shards import FAST

pytestmark = pytest.mark.exact

_FLOOR = "select floor from cluster"
_IS_ABOVE = "select floor > $1 from log"
_WAITS_FOR_LOCK = """
select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')"""


async def make_old_group(connection: Any) -> list[NumberedEntry]:
    """An entry that is above the floor, and will be below it as soon as it is raised."""
    request_id = make_request_id(time_ms_of(await connection.fetchval(_FLOOR)) + 1)
    [sent] = cut_request({("video", "view"): 1}, request_id)
    return [NumberedEntry(1, 1_700_000_000_000_000, as_entry(sent))]


async def raise_floor(dsn: str) -> None:
    async with open_proof(dsn) as connection:
        now_ms = await connection.fetchval("select (extract(epoch from clock_timestamp()) * 1000)::bigint")
        await floor.raise_floor(connection, floor_at(now_ms))
        await floor.raise_floors_of_logs(connection)


async def waits(connection: Any) -> None:
    async def is_waiting() -> bool:
        return bool(await connection.fetchval(_WAITS_FOR_LOCK))

    await eventually(is_waiting)


async def test_the_floor_of_a_log_waits_for_an_insert_under_way(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floor, "LOCK_SECONDS", 30.0)
    async with open_proof(dsn) as connection, open_proof(dsn) as inserting:
        log = await open_log(dsn, PostgresSettings(), FAST, "shard")
        group = await make_old_group(connection)
        async with inserting.transaction():
            answer = await Journal(WriteConnection(inserting), log.log_id, 5.0).insert(group)
            assert not answer.below_floor
            raising = asyncio.create_task(raise_floor(dsn))
            await waits(connection)
            assert not await connection.fetchval(_IS_ABOVE, group[0].entry.request_id)
        await raising
        assert await connection.fetchval(_IS_ABOVE, group[0].entry.request_id)
        assert await connection.fetchval("select count(*) from journal") == 1
        log.abandon()


async def test_an_insert_that_does_not_end_keeps_the_floor_of_its_own_log_only(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floor, "LOCK_SECONDS", 0.2)
    async with open_proof(dsn) as connection, open_proof(dsn) as inserting:
        frozen = await open_log(dsn, PostgresSettings(), FAST, "frozen")
        others = [await open_log(dsn, PostgresSettings(), FAST, "other") for _ in range(2)]
        group = await make_old_group(connection)
        async with inserting.transaction():
            await Journal(WriteConnection(inserting), frozen.log_id, 5.0).insert(group)
            await raise_floor(dsn)
            behind = await connection.fetch(
                "select log_id from log where floor < $1", group[0].entry.request_id
            )
            assert [row["log_id"] for row in behind] == [frozen.log_id]
        for log in (frozen, *others):
            log.abandon()


async def test_an_insert_that_began_before_its_log_had_the_floor_goes_by_it(dsn: str) -> None:
    """Its snapshot is from before: the row that it locks must tell it the newer floor."""
    async with open_proof(dsn) as connection, open_proof(dsn) as raising, open_proof(dsn) as inserting:
        log = await open_log(dsn, PostgresSettings(), FAST, "shard")
        group = await make_old_group(connection)
        async with raising.transaction():
            await raising.execute("select from log for update")
            insert = asyncio.create_task(Journal(WriteConnection(inserting), log.log_id, 5.0).insert(group))
            await waits(connection)
            await raising.execute("update log set floor = $1", new_id())
        assert (await insert).below_floor == {1}
        assert await connection.fetchval("select count(*) from journal") == 0
        log.abandon()
