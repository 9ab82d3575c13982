"""The life of a log: the fence, what is in doubt, and how a log comes to its end."""

import asyncio
import datetime as dt

import asyncpg
import pytest
from structlog.testing import capture_logs

from libs.domain.entry import Outcome
from libs.stores.postgres import PostgresSettings
from libs.telemetry.setup import OFF
from services.counting.journal.appender import Appender, LogClosed
from services.counting.journal.journal import Journal
from services.counting.journal.log import open_log
from services.counting.journal.queue import Queue
from services.counting.metrics import Metrics
from services.counting.settings import JournalSettings
from tally.contract.request_id import AHEAD_MS, HORIZON_MS, make_request_id, time_ms_of
from tests.support.clock import Clock
from tests.support.entries import as_entry, cut_request, new_id
from tests.support.eventually import eventually
from tests.support.life import backlog
from tests.support.proof import assert_exact, open_proof, rolled_up, states
from tests.support.rollups import EVENTS
from tests.support.shards import FAST, NEVER, open_shard, quick, send

pytestmark = pytest.mark.exact

COUNTS = {(f"video {n}", "view"): n + 1 for n in range(8)}

_WAITS = """
select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')"""
_GENERATION_OF_LOG = "select generation from counting.checkpoint where log_id = $1"
_WARN_ONCE = """
create sequence warned;
create function warn_once() returns trigger language plpgsql as $$
begin
    if nextval('warned') = 1 then raise warning 'something is odd' using errcode = 'query_canceled'; end if;
    return null;
end $$;
create trigger warn_once after insert on counting.journal for each statement execute function warn_once()"""
_WARN_EACH_TIME = """
create sequence warned;
create function warn() returns trigger language plpgsql as $$
begin
    raise warning 'vacuumed within % transactions', nextval('warned');
    return null;
end $$;
create trigger warn after insert on counting.journal for each statement execute function warn()"""


async def test_a_group_answered_by_a_closed_log_is_not_acknowledged(dsn: str) -> None:
    log = await open_log(dsn, PostgresSettings(), FAST, "shard")
    async with open_proof(dsn) as connection:
        await connection.execute("update counting.log set state = 'closed'")
        queue = Queue(JournalSettings())
        outcomes = queue.enqueue([as_entry(entry) for entry in cut_request(COUNTS)])
        appender = Appender(log, Journal(log.inserts, log.log_id, 5.0), backlog(), Clock(), OFF, Metrics(OFF))
        group = await queue.take_group()
        with pytest.raises(LogClosed):
            await appender.append(group)
        log.abandon()
        assert not any(outcome.done() for outcome in outcomes)
        assert appender.backlog.event_count == 0
        assert await connection.fetchval("select count(*) from counting.journal") == 0


async def test_a_log_that_is_opened_during_a_sealing_waits_for_it_and_is_of_the_next_generation(
    dsn: str,
) -> None:
    """Sealing moves the checkpoints that it finds, and would not find this one."""
    async with open_proof(dsn) as sealing, open_proof(dsn) as connection:
        async with sealing.transaction():
            await sealing.execute("insert into counting.generation (generation) values (2)")
            await sealing.execute("update counting.generation set sealed_at = now() where generation = 1")
            opening = asyncio.create_task(open_log(dsn, PostgresSettings(), FAST, "shard"))

            async def waits() -> bool:
                return opening.done() or bool(await connection.fetchval(_WAITS))

            await eventually(waits)
            assert not opening.done()
        log = await opening
        assert await connection.fetchval(_GENERATION_OF_LOG, log.log_id) == 2
        log.abandon()


async def test_a_shard_whose_log_was_closed_opens_another_and_counts_once(dsn: str) -> None:
    async with open_shard(dsn) as shard, open_proof(dsn) as connection:
        await send(shard, COUNTS)
        await connection.execute("update counting.log set state = 'closed'")
        assert await send(shard, {("after", "view"): 1}) == {Outcome.JOURNALED}
        await assert_exact(dsn, {**COUNTS, ("after", "view"): 1})


async def test_an_idle_shard_notices_that_its_log_was_closed(dsn: str) -> None:
    async with open_shard(dsn), open_proof(dsn) as connection:
        await connection.execute("update counting.log set state = 'closed'")

        async def has_reopened() -> bool:
            return await states(connection) == {"open": 1, "settled": 1}

        await eventually(has_reopened)


async def test_a_success_with_a_warning_of_something_else_is_a_success_and_logged_once(dsn: str) -> None:
    """Such as that transaction ids run out, which each insert may say for weeks, each time with another number."""
    async with open_proof(dsn) as connection:
        await connection.execute(_WARN_EACH_TIME)
        async with open_shard(dsn) as shard:
            with capture_logs() as logs:
                for _ in range(3):
                    assert await send(shard, COUNTS) == {Outcome.JOURNALED}
            await assert_exact(dsn, {key: 3 * n for key, n in COUNTS.items()})
        assert await connection.fetchval("select count(*) from counting.log") == 1
    warned = [log["warning"] for log in logs if "warning" in log]
    assert warned == ["vacuumed within 1 transactions"]


async def test_a_success_with_a_warning_of_a_cancelled_wait_is_in_doubt(dsn: str) -> None:
    async with open_proof(dsn) as connection:
        await connection.execute(_WARN_ONCE)
        async with open_shard(dsn) as shard:
            # Nothing was lost: the warned insert was committed, and the next log finds its rows there.
            assert await send(shard, COUNTS) == {Outcome.DUPLICATE}
            await assert_exact(dsn, COUNTS)
            assert (await states(connection))["open"] == 1
            assert await connection.fetchval("select count(*) from counting.log") == 2


async def test_a_group_with_one_bad_entry_refuses_that_one_alone(dsn: str) -> None:
    good = [as_entry(entry) for n in range(7) for entry in cut_request({(f"video {n}", "view"): n + 1})]
    [bad] = [as_entry(entry) for entry in cut_request({("bad", "view"): 1})]
    async with open_proof(dsn) as connection:
        await connection.execute(
            f"alter table counting.journal add constraint odd check (request_id <> '{bad.request_id}')"
        )
        async with open_shard(dsn) as shard:
            outcomes = await shard.append([*good[:3], bad, *good[3:]])
            assert outcomes == [Outcome.JOURNALED] * 3 + [Outcome.INVALID] + [Outcome.JOURNALED] * 4
            await assert_exact(dsn, {(f"video {n}", "view"): n + 1 for n in range(7)})


async def test_an_entry_without_a_partition_to_go_to_may_be_sent_again(dsn: str) -> None:
    async with open_proof(dsn) as connection, open_shard(dsn) as shard:
        today = dt.datetime.now(dt.UTC)
        for day in (today, today + dt.timedelta(minutes=5)):
            await connection.execute(f"drop table if exists counting.journal_{day:%Y_%m_%d}")
        assert await send(shard, COUNTS) == {Outcome.UNAVAILABLE}
        await assert_exact(dsn, {})


_SNAPSHOT = f"""
select (select coalesce(sum(events), 0) from counting.flush_log) as flushed,
    {EVENTS} as counted,
    (select coalesce(sum(events), 0) from counting.journal join counting.checkpoint using (log_id)
        where seq <= applied_seq) as applied"""


async def test_rollups_never_show_a_half_applied_flush(dsn: str) -> None:
    """A flush of many statements, looked at while it goes on: all of it is there or nothing."""
    videos = {(f"video {n}", "view"): 1 for n in range(200)}
    flush = quick(0.01).flush.model_copy(update={"statement_cells": 7})
    requests = 0
    seen: set[int] = set()
    async with open_proof(dsn) as connection:
        async with open_shard(dsn, quick().model_copy(update={"flush": flush})) as shard:
            while len(seen) < 8:
                counting = asyncio.create_task(send(shard, videos))
                requests += 1
                while not counting.done():
                    row = await connection.fetchrow(_SNAPSHOT)
                    assert row["flushed"] == row["counted"] == row["applied"]
                    seen.add(row["counted"])
                await counting
        await assert_exact(dsn, dict.fromkeys(videos, requests))


async def test_a_log_is_settled_when_its_shard_stops(dsn: str) -> None:
    async with open_shard(dsn, quick(NEVER)) as shard:
        await send(shard, COUNTS)
    async with open_proof(dsn) as connection:
        assert await rolled_up(connection) == COUNTS
        assert await states(connection) == {"settled": 1}
    await assert_exact(dsn, COUNTS)


async def test_a_log_that_was_closed_and_left_is_recovered_by_another_shard(dsn: str) -> None:
    async with open_shard(dsn, quick(NEVER), "dies", is_killed=True) as shard:
        await send(shard, COUNTS)
    async with open_proof(dsn) as connection:
        await connection.execute("update counting.log set state = 'closed'")
        async with open_shard(dsn, name="next"):
            await assert_exact(dsn, COUNTS)


async def test_a_takeover_by_many_at_once_applies_each_entry_once(dsn: str) -> None:
    async with open_shard(dsn, quick(NEVER), "dies", is_killed=True) as shard:
        for n in range(20):
            await send(shard, {(f"video {n}", "view"): n + 1})
    pieces = FAST.model_copy(update={"piece_events": 10})
    settings = quick(recovery=pieces)
    async with open_shard(dsn, settings, "a"), open_shard(dsn, settings, "b"), open_shard(dsn, settings, "c"):
        await assert_exact(dsn, {(f"video {n}", "view"): n + 1 for n in range(20)})


async def test_an_entry_that_cannot_be_read_becomes_a_dead_letter_and_blocks_nothing(dsn: str) -> None:
    async with open_shard(dsn, quick(NEVER), "dies", is_killed=True) as shard:
        await send(shard, {("before", "view"): 1})
        await send(shard, {("broken", "view"): 1})
        await send(shard, {("after", "view"): 1})
    async with open_proof(dsn) as connection:
        await connection.execute("update counting.journal set payload = '\\xff' where seq = 2")
        async with open_shard(dsn, name="next"):

            async def is_settled() -> bool:
                return (await states(connection))["settled"] == 1

            await eventually(is_settled)
        assert await rolled_up(connection) == {("before", "view"): 1, ("after", "view"): 1}
        assert (
            await connection.fetchval(
                "select count(*) from counting.dead_letter where seq = 2 and reason <> ''"
            )
            == 1
        )


async def test_a_deadline_of_the_server_puts_a_frozen_flush_to_an_end(dsn: str) -> None:
    """Whoever holds the checkpoint in an open transaction, and says no more, is ended by Postgres."""
    async with open_shard(dsn, quick(NEVER), "dies", is_killed=True) as shard:
        await send(shard, COUNTS)
    async with open_proof(dsn) as frozen:
        await frozen.execute("set idle_in_transaction_session_timeout = '1s'")
        await frozen.execute("begin")
        await frozen.execute("update counting.checkpoint set applied_seq = applied_seq")
        async with open_shard(dsn, name="next"):
            await assert_exact(dsn, COUNTS)
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
            await frozen.execute("commit")


async def test_requests_of_the_whole_horizon_are_counted(dsn: str) -> None:
    now_ms = time_ms_of(new_id())
    async with open_shard(dsn) as shard:
        for age_ms in (HORIZON_MS - 1000, 3_600_000, 0, -AHEAD_MS):
            assert await send(shard, COUNTS, make_request_id(now_ms - age_ms)) == {Outcome.JOURNALED}
        await assert_exact(dsn, {key: 4 * n for key, n in COUNTS.items()})
