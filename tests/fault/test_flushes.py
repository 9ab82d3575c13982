"""Flushes that do not get in, or meet each other: they are late, and nothing worse."""

import asyncio

import pytest

from libs.domain.entry import Outcome
from libs.telemetry.setup import OFF
from services.counting.flush import buffer
from services.counting.flush.flusher import Flusher
from services.counting.flush.pace import Pace
from services.counting.metrics import Metrics
from services.counting.settings import CountingSettings, FlushSettings, RecoverySettings
from tests.support.clock import Clock
from tests.support.entries import as_entry, cut_request
from tests.support.eventually import eventually
from tests.support.life import open_life
from tests.support.proof import assert_exact, open_proof
from tests.support.shards import FAST, open_shard, send

pytestmark = pytest.mark.exact

COUNTS = {(f"video {n}", "view"): n + 1 for n in range(8)}
MAX_LAG_S = 0.2

_DEADLOCKS = "select deadlocks from pg_stat_database where datname = current_database()"
_WAITING_FLUSHES = """
select count(*) from pg_stat_activity
where datname = current_database() and application_name like 'tally counting flushes%' and wait_event_type = 'Lock'"""

# Each of three times, the checkpoint was moved and a run was made by then, and must be undone.
_REFUSE = """
create sequence statements;
create function refuse() returns trigger language plpgsql as $$
begin
    if nextval('statements') in (1, 2, 3) then
        raise exception 'not now' using errcode = '{sqlstate}';
    end if;
    return null;
end $$;
create trigger refuse after insert on counting.rollup_block for each statement execute function refuse()"""


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
        assert await connection.fetchval("select last_value > 3 from statements")
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


async def test_what_waits_for_a_flush_is_merged_meanwhile(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffer, "_CHUNK_EVENTS", 1)
    monkeypatch.setattr(buffer, "_MERGE_CELLS", len(COUNTS))
    settings = FlushSettings(interval_seconds=30)
    async with open_life(dsn) as life:
        pace = Pace(settings, longest_seconds=8.0)
        flusher = Flusher(life.log, life.appender, settings, pace, Clock(), Metrics(OFF))
        merging = asyncio.create_task(flusher.merge_chunks())
        for _ in range(6):
            await life.send(COUNTS)
        assert life.appender.backlog.cell_count >= 6 * len(COUNTS)
        flusher.note_arrival()

        async def are_merged() -> bool:
            return life.appender.backlog.cell_count == len(COUNTS)

        await eventually(are_merged)
        await life.send(COUNTS)
        await flusher.flush()
        merging.cancel()
        await assert_exact(dsn, {key: 7 * n for key, n in COUNTS.items()})


async def test_flushes_of_two_shards_of_the_same_keys_never_deadlock(dsn: str) -> None:
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
