"""The fence: what is under way when a log is closed, and that never more than one insert of a log is."""

import asyncio
from typing import Any

import asyncpg
import pytest

from libs.domain.entry import Outcome
from libs.stores.postgres import PostgresSettings
from libs.stores.write_connection import WriteConnection
from services.counting.journal.entry import NumberedEntry
from services.counting.journal.journal import Answer, Journal
from services.counting.journal.log import Log, open_log
from services.counting.recovery.recovery import Recovery
from services.counting.settings import FlushSettings, RecoverySettings
from tests.support.entries import as_entry, cut_request
from tests.support.eventually import eventually
from tests.support.proof import assert_exact, open_proof, states
from tests.support.shards import FAST, open_shard, quick

pytestmark = pytest.mark.exact

COUNTS = {(f"video {n}", "view"): n + 1 for n in range(8)}
GROUP = [
    NumberedEntry(seq, 1_700_000_000_000_000, as_entry(entry))
    for seq, entry in enumerate(cut_request(COUNTS), start=1)
]

_WAIT_FOR_LOCK = """
select count(*) from pg_stat_activity
where datname = current_database() and application_name like 'tally counting inserts %'
    and wait_event_type = 'Lock'"""


async def take_over(dsn: str, log_id: int) -> bool:
    """Once, as any shard does for any log. Waits for nobody."""
    async with asyncio.timeout(5), asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
        return await Recovery(pool, FAST, FlushSettings()).take_over(log_id)


async def insert(connection: Any, log: Log) -> None:
    """The journal's own insert, of all that is counted here."""
    answer = await Journal(WriteConnection(connection), log.log_id, 5.0).insert(GROUP)
    assert answer == Answer(is_open=True, below_floor=frozenset(), duplicates=frozenset())


async def test_a_log_is_not_closed_before_an_insert_under_way_has_ended(dsn: str) -> None:
    log = await open_log(dsn, PostgresSettings(), FAST, "shard")
    # From a connection that the log does not name: nobody may put an end to it.
    async with open_proof(dsn) as inserting, open_proof(dsn) as connection:
        async with inserting.transaction():
            await insert(inserting, log)
            assert not await take_over(dsn, log.log_id)
            assert await states(connection) == {"open": 1}
        assert await take_over(dsn, log.log_id)
        assert await states(connection) == {"settled": 1}
    log.abandon()
    await assert_exact(dsn, COUNTS)


async def test_an_insert_that_a_frozen_shard_left_open_is_ended_and_never_committed(dsn: str) -> None:
    # Its own time limits are beyond those of this test: whoever takes over does not wait for them.
    log = await open_log(dsn, PostgresSettings(), RecoverySettings(), "shard")
    frozen: Any = log.inserts._connection
    await frozen.execute("begin")
    await insert(frozen, log)
    async with open_proof(dsn) as connection:

        async def is_taken_over() -> bool:
            return await take_over(dsn, log.log_id)

        assert not await is_taken_over()  # the row was held; whoever held it is gone from now on
        await eventually(is_taken_over, 5.0)
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await frozen.execute("commit")
        assert await connection.fetchval("select count(*) from counting.journal") == 0
    log.abandon()
    await assert_exact(dsn, {})


async def test_an_insert_that_comes_after_the_close_writes_nothing(dsn: str) -> None:
    log = await open_log(dsn, PostgresSettings(), FAST, "shard")
    async with open_proof(dsn) as inserting:
        assert await take_over(dsn, log.log_id)
        answer = await Journal(WriteConnection(inserting), log.log_id, 5.0).insert(GROUP)
        assert not answer.is_open
    log.abandon()
    await assert_exact(dsn, {})


async def test_a_log_has_one_insert_under_way_while_many_entries_arrive(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert_group, under_way, most = Journal.insert, 0, 0

    async def watched(self: Journal, group: Any) -> Answer:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            return await insert_group(self, group)
        finally:
            under_way -= 1

    monkeypatch.setattr(Journal, "insert", watched)
    requests = [
        [as_entry(entry) for entry in cut_request({(f"video {n}", "view"): 1, (f"other {n}", "like"): 1})]
        for n in range(60)
    ]
    async with open_proof(dsn) as connection, open_shard(dsn, quick()) as shard:
        async with connection.transaction():
            await connection.execute("lock table counting.journal in share row exclusive mode")
            appends = [asyncio.create_task(shard.append(requests[0]))]

            async def is_waiting() -> bool:
                return bool(await connection.fetchval(_WAIT_FOR_LOCK))

            await eventually(is_waiting)
            appends += [asyncio.create_task(shard.append(request)) for request in requests[1:]]
            # All of them have come when the answers to these questions are there.
            for _ in range(3):
                assert await connection.fetchval(_WAIT_FOR_LOCK) == 1
        for outcomes in await asyncio.gather(*appends):
            assert set(outcomes) == {Outcome.JOURNALED}
        assert most == 1
        assert await connection.fetchval("select count(*) from counting.log") == 1
        await assert_exact(
            dsn,
            {
                (f"{name} {n}", kind): 1
                for name, kind in (("video", "view"), ("other", "like"))
                for n in range(60)
            },
        )
