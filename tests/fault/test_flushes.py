"""Flushes that do not get in, or meet each other: they are late, and nothing worse."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, cast

import pytest

from libs.domain.entry import Outcome
from libs.telemetry.setup import OFF
from services.counting.flush.flusher import Flusher
from services.counting.flush.pace import Pace
from services.counting.journal.position import Position
from services.counting.metrics import Metrics
from services.counting.settings import CountingSettings, FlushSettings, RecoverySettings
from tests.support.clock import Clock
from tests.support.entries import Counts, as_entry, cut_request
from tests.support.eventually import eventually
from tests.support.life import NOW_S, Life, open_life, take_over
from tests.support.proof import assert_exact, open_proof
from tests.support.shards import FAST, open_shard, send

pytestmark = pytest.mark.exact

COUNTS = {(f"video {n}", "view"): n + 1 for n in range(8)}
MAX_LAG_S = 0.2

_DEADLOCKS = "select deadlocks from pg_stat_database where datname = current_database()"
_WAITING_FLUSHES = """
select count(*) from pg_stat_activity
where datname = current_database() and application_name like 'tally counting flushes%' and wait_event_type = 'Lock'"""

_WAITING_INSERTS = """
select count(*) from pg_stat_activity
where datname = current_database() and application_name like '%counting inserts%' and wait_event_type = 'Lock'"""
_ADD_NONE = """
insert into counting.rollup_minute as old (generation, video_id, event_type, minute, count) values (1, $1, $2, $3, 0)
on conflict (video_id, event_type, minute, generation) do update set count = old.count"""

# Every second statement, three times: the first statement of the flush was done by then, and must be undone.
_REFUSE = """
create sequence statements;
create function refuse() returns trigger language plpgsql as $$
begin
    if nextval('statements') in (2, 4, 6) then
        raise exception 'not now' using errcode = '{sqlstate}';
    end if;
    return null;
end $$;
create trigger refuse after insert on counting.rollup_minute for each statement execute function refuse()"""


async def test_a_shard_whose_flush_does_not_get_through_is_not_ready_until_it_does(dsn: str) -> None:
    settings = CountingSettings(
        max_flush_lag_seconds=MAX_LAG_S,
        flush=FlushSettings(interval_seconds=0.05),
        recovery=RecoverySettings(),  # patient: the log is the same from beginning to end
    )
    async with open_proof(dsn) as connection, open_shard(dsn, settings) as shard:

        async def is_ready() -> bool:
            return shard.is_ready

        async def is_not_ready() -> bool:
            return not shard.is_ready

        async with connection.transaction():
            await connection.execute("select from counting.checkpoint for update")
            assert await send(shard, COUNTS) == {Outcome.JOURNALED}
            await eventually(is_not_ready, 5.0)
            assert shard.lag_seconds > MAX_LAG_S
        await eventually(is_ready)
        await assert_exact(dsn, COUNTS)
        assert await connection.fetchval("select count(*) from counting.log") == 1


async def test_a_flush_that_is_stuck_holds_up_no_acknowledgement(dsn: str) -> None:
    settings = CountingSettings(flush=FlushSettings(interval_seconds=0.05), recovery=RecoverySettings())
    async with open_proof(dsn) as connection, open_shard(dsn, settings) as shard:

        async def is_stuck() -> bool:
            return bool(await connection.fetchval(_WAITING_FLUSHES))

        async with connection.transaction():
            await connection.execute("select from counting.checkpoint for update")
            assert await send(shard, COUNTS) == {Outcome.JOURNALED}
            await eventually(is_stuck)
            for _ in range(5):
                assert await send(shard, COUNTS) == {Outcome.JOURNALED}
            assert await is_stuck()
        await assert_exact(dsn, {key: 6 * n for key, n in COUNTS.items()})


@pytest.mark.parametrize(
    "sqlstate",
    [
        pytest.param("23514", id="check_violation"),
        pytest.param("40P01", id="deadlock_detected"),
        pytest.param("53100", id="disk_full"),
        pytest.param("55P03", id="lock_not_available"),
    ],
)
async def test_a_flush_that_the_server_refuses_for_a_while_is_tried_again_whole(
    dsn: str, sqlstate: str
) -> None:
    settings = CountingSettings(flush=FlushSettings(interval_seconds=0.05, statement_cells=3), recovery=FAST)
    async with open_proof(dsn) as connection:
        await connection.execute(_REFUSE.format(sqlstate=sqlstate))
        async with open_shard(dsn, settings) as shard:
            assert await send(shard, COUNTS) == {Outcome.JOURNALED}

            async def is_refused() -> bool:
                return bool(await connection.fetchval("select last_value >= 2 from statements"))

            await eventually(is_refused)
            assert await send(shard, COUNTS) == {Outcome.JOURNALED}
            await assert_exact(dsn, {key: 2 * n for key, n in COUNTS.items()})
        assert await connection.fetchval("select last_value > 6 from statements")
        assert await connection.fetchval("select count(*) from counting.log") == 1


async def test_after_a_slow_flush_the_next_waits_no_longer_than_the_load_lasts(dsn: str) -> None:
    settings = FlushSettings(interval_seconds=0.05)
    pace = Pace(settings, longest_seconds=8.0)
    pace.note(10, 60.0)
    assert pace.pause_seconds == settings.max_interval_seconds
    async with open_life(dsn) as life:
        await life.send(COUNTS)
        flusher = Flusher(life.log, life.appender, settings, pace, Clock(), Metrics(OFF))
        flushing = asyncio.create_task(flusher.run())
        await assert_exact(dsn, COUNTS)
        flusher.stop()
        await flushing


async def test_upserts_of_two_shards_on_the_same_keys_never_deadlock(dsn: str) -> None:
    rounds, forward = 40, {(f"video {n}", "view"): 1 for n in range(100)}
    backward = dict(reversed(forward.items()))
    settings = CountingSettings(flush=FlushSettings(interval_seconds=0.001, statement_cells=2), recovery=FAST)
    async with open_shard(dsn, settings, "a") as a, open_shard(dsn, settings, "b") as b:
        for _ in range(rounds):
            await asyncio.gather(
                a.append([as_entry(entry) for entry in cut_request(forward)]),
                b.append([as_entry(entry) for entry in cut_request(backward)][::-1]),
            )
        await assert_exact(dsn, dict.fromkeys(forward, 2 * rounds))
    async with open_proof(dsn) as connection:
        # What a session has seen is known to all when it ends; the shards have ended theirs.
        assert await connection.fetchval(_DEADLOCKS) == 0


class Counter:
    """Counts what a flusher reports."""

    total = 0

    def add(self, n: int) -> None:
        self.total += n


def make_flusher(life: Life) -> tuple[Flusher, Counter]:
    """Of a log that was opened a minute before what comes, so that it knows what of that is new."""
    settings, clock, metrics = FlushSettings(interval_seconds=0.05), Clock(NOW_S - 60), Metrics(OFF)
    conflicts = Counter()
    metrics.flush_conflicts = cast("Any", conflicts)
    flusher = Flusher(life.log, life.appender, settings, Pace(settings, 8.0), clock, metrics)
    clock.seconds = NOW_S
    return flusher, conflicts


def many(first: int, end: int) -> Counts:
    return {(f"video {n:03}", "view"): n % 3 + 1 for n in range(first, end)}


async def assert_exact_in_the_end(dsn: str, lives: Iterable[Life], counts: Counts) -> None:
    for life in lives:
        assert life.log.applied == Position(life.log.cut)
        life.log.abandon()
        await take_over(dsn, life.log.log_id)
    await assert_exact(dsn, counts)


async def test_rows_that_another_log_has_written_meanwhile_are_added_to(dsn: str) -> None:
    """Each of two logs takes rows for new that are the other's: nothing is lost, doubled or given up."""
    async with open_life(dsn) as one, open_life(dsn) as other:
        flushers = {life.log.log_id: make_flusher(life) for life in (one, other)}
        conflicts: list[int] = []
        total: dict[tuple[str, str], int] = defaultdict(int)
        for life, counts in [
            (one, many(0, 300)),  # new, and so they are
            (other, many(200, 500)),  # the first hundred are not
            (one, many(0, 300)),  # known
            (other, many(500, 800)),  # nothing is new to it in this minute any more
            (one, many(300, 600)),  # all of them are the other's
        ]:
            await life.send(counts)
            flusher, _ = flushers[life.log.log_id]
            await flusher.flush()
            conflicts.append(sum(counter.total for _, counter in flushers.values()))
            for key, n in counts.items():
                total[key] += n
        assert conflicts == [0, 1, 1, 1, 2]
        await assert_exact_in_the_end(dsn, (one, other), total)


async def test_a_flush_of_new_rows_that_deadlocks_is_made_again_by_upserts(dsn: str) -> None:
    """It holds new rows that come late in the order when it comes to one that is there; the other goes in order."""
    early, late = ("video 000", "view"), ("video 299", "view")
    async with open_life(dsn) as life, open_proof(dsn) as other:
        flusher, _ = make_flusher(life)
        await life.send({early: 1})
        await flusher.flush()
        await life.send(many(0, 300))

        async def is_waiting() -> bool:
            return bool(await other.fetchval(_WAITING_INSERTS))

        statements: list[str] = []
        await other.execute("set deadlock_timeout = '1min'")  # so it is the flush that Postgres ends
        transaction = other.transaction()
        await transaction.start()
        await other.execute(_ADD_NONE, *early, int(NOW_S) // 60)
        with life.connection.query_logger(lambda logged: statements.append(logged.query)):
            flushing = asyncio.create_task(flusher.flush())
            await eventually(is_waiting)
            await other.execute(_ADD_NONE, *late, int(NOW_S) // 60)
            await transaction.rollback()
            await flushing
        assert [
            "on conflict" in each for each in statements if "insert into counting.rollup_minute" in each
        ] == [
            False,  # what is new
            True,  # what is not; this one waited
            True,
        ]
        await assert_exact_in_the_end(dsn, [life], {**many(0, 300), early: 2})
