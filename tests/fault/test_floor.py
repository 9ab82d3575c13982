"""The floor: when an open log has one, nothing below it is on its way into the journal any more."""

import asyncio
import re
import uuid
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from libs.domain import floor_pace
from libs.domain.entry import Outcome
from libs.domain.horizon import FLOOR_BEHIND_DOOR_MS, floor_at
from libs.stores import floor
from libs.stores.postgres import PostgresSettings
from libs.stores.write_connection import WriteConnection
from libs.telemetry.setup import OFF
from services.counting.journal.entry import NumberedEntry
from services.counting.journal.journal import Journal
from services.counting.journal.log import open_log
from services.counting.recovery.floor_keeper import FloorKeeper
from services.counting.recovery.partitions import keep_partitions
from tally.contract.request_id import HORIZON_MS, first_id_of, make_request_id, time_ms_of
from tests.support.entries import as_entry, cut_request, new_id
from tests.support.eventually import eventually
from tests.support.glitch import install_glitch, set_clock
from tests.support.letters import bury_spooled, open_decisions
from tests.support.proof import assert_exact, open_proof
from tests.support.shards import FAST, open_shard, send
from tests.support.stack import OpenService
from tests.support.terminal import run

pytestmark = pytest.mark.exact

COUNTS = {("video", "view"): 3}
_FLOOR = "select floor from public.cluster"
_PARTITIONS = "select count(*) from pg_inherits where inhparent = 'counting.journal'::regclass"
_IS_ABOVE = "select floor > $1 from counting.log"
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
        await floor.align_logs(connection)


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
        assert await connection.fetchval("select count(*) from counting.journal") == 1
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
                "select log_id from counting.log where floor < $1", group[0].entry.request_id
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
            await raising.execute("select from counting.log for update")
            insert = asyncio.create_task(Journal(WriteConnection(inserting), log.log_id, 5.0).insert(group))
            await waits(connection)
            await raising.execute("update counting.log set floor = $1", new_id())
        assert (await insert).below_floor == {1}
        assert await connection.fetchval("select count(*) from counting.journal") == 0
        log.abandon()


DAY_S = 86_400.0


def far_floor() -> uuid.UUID:
    """Where a floor is that wrong clocks have raised."""
    return first_id_of(time_ms_of(new_id()) + 39 * 86_400_000)


async def look(dsn: str, looks: int = 1) -> None:
    """As the loop of a shard does, without its pauses."""
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
        keeper = FloorKeeper(pool, OFF)
        for _ in range(looks):
            await keeper.look()


async def test_a_postgres_clock_that_is_wrong_for_a_moment_raises_no_floor(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even when a shard starts just then, and whatever else it does then is harmless."""
    monkeypatch.setattr(floor_pace, "STEADY_SECONDS", 0.0)  # the one reading shall not do, however patient
    async with open_proof(dsn) as connection:
        await install_glitch(connection)
        before = await connection.fetchval(_FLOOR)
        partitions = await connection.fetchval(_PARTITIONS)
        await set_clock(connection, 40 * DAY_S)
        with capture_logs() as logs:
            await look(dsn, looks=3)
        async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
            await keep_partitions(pool, ahead_hours=48)
        assert await connection.fetchval(_FLOOR) == before
        assert await connection.fetchval(_PARTITIONS) <= partitions + 5
        [alarm] = [log for log in logs if log["log_level"] == "error"]
        assert "differ by +3,456,00" in alarm["why"]
        await set_clock(connection, 0.0)
        async with open_shard(dsn) as shard:
            assert await send(shard, COUNTS) == {Outcome.JOURNALED}


async def test_a_shard_that_starts_while_postgres_clock_is_wrong_raises_no_floor(
    open_service: OpenService, dsn: str
) -> None:
    async with open_proof(dsn) as connection:
        await install_glitch(connection)
        await set_clock(connection, 40 * DAY_S)
        before = await connection.fetchval(_FLOOR)

        async def has_log() -> bool:
            return bool(await connection.fetchval("select exists (select from counting.log)"))

        async def start() -> None:
            async with open_service("counting"):
                raise AssertionError("it says that it is ready")

        starting = asyncio.create_task(start())
        await eventually(has_log)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert await connection.fetchval(_FLOOR) == before
        assert await connection.fetchval("select floor from counting.log") == before


async def test_the_floor_is_raised_when_the_clocks_have_agreed_for_a_while(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_proof(dsn) as connection:
        await connection.execute(
            "update public.cluster set floor = $1", first_id_of(time_ms_of(new_id()) - 30 * 86_400_000)
        )
        before = await connection.fetchval(_FLOOR)
        await look(dsn, looks=3)
        assert await connection.fetchval(_FLOOR) == before
        monkeypatch.setattr(floor_pace, "STEADY_SECONDS", 0.0)
        monkeypatch.setattr(floor_pace, "CATCHING_UP_SPEED", 1e12)
        await look(dsn, looks=2)
        age_ms = time_ms_of(new_id()) - time_ms_of(await connection.fetchval(_FLOOR))
        assert age_ms == pytest.approx(HORIZON_MS + FLOOR_BEHIND_DOOR_MS, abs=10_000)


async def test_a_floor_that_is_too_high_is_lowered_and_requests_are_counted_once(dsn: str) -> None:
    counted, refused = new_id(), new_id()
    async with open_proof(dsn) as connection, open_shard(dsn) as shard:
        assert await send(shard, COUNTS, counted) == {Outcome.JOURNALED}
        await floor.raise_floor(connection, far_floor())
        await floor.align_logs(connection)
        assert await send(shard, COUNTS, refused) == {Outcome.BELOW_FLOOR}
        async with open_shard(dsn, name="opened above") as other:
            assert await send(other, COUNTS, refused) == {Outcome.BELOW_FLOOR}
            shown = await run("floor", "show", TALLY_POSTGRES__DSN=dsn, TALLY_PARTITION_COUNT="4")
            assert shown.exit_code == 0
            assert "can be lowered    yes" in shown.out
            lowered = await run("floor", "lower", "--yes", TALLY_POSTGRES__DSN=dsn, TALLY_PARTITION_COUNT="4")
            assert (lowered.exit_code, lowered.err) == (0, "")
            # Both shards go on, under logs that were opened below; what was counted before is a duplicate.
            assert await send(other, COUNTS, refused) == {Outcome.JOURNALED}
            assert await send(shard, COUNTS, refused) == {Outcome.DUPLICATE}
            assert await send(shard, COUNTS, counted) == {Outcome.DUPLICATE}
            await assert_exact(dsn, {key: 2 * n for key, n in COUNTS.items()})
        again = await run("floor", "lower", "--yes", TALLY_POSTGRES__DSN=dsn, TALLY_PARTITION_COUNT="4")
        assert again.exit_code == 1
        assert "stays where it is: it is not ahead" in again.err


async def test_a_floor_is_not_lowered_where_an_entry_could_be_counted_again(dsn: str) -> None:
    async with open_proof(dsn) as connection:
        high = far_floor()
        await floor.raise_floor(connection, high)
        # A letter that was replayed for the reason that its id was below the floor.
        [key] = await bury_spooled(connection, COUNTS, new_id())
        await open_decisions(dsn).replay(key)
        found, _ = await floor.lower_floor(connection)
        assert f"the dead letter of request {key.request_id} was replayed" in found.obstacle
        await connection.execute("update counting.dead_letter set request_id = $1", first_id_of(1))
        # A partition of yesterday that has gone with what was in it.
        await connection.execute("update public.cluster set journal_from = $1", new_id())
        found, _ = await floor.lower_floor(connection)
        assert "partitions of the journal" in found.obstacle
        await connection.execute("update public.cluster set journal_from = $1", first_id_of(1))
        await install_glitch(connection)
        await set_clock(connection, 5.0)
        async with open_proof(dsn) as glitched:
            found, _ = await floor.lower_floor(glitched)
            assert re.search(r"differ by \+(4,9|5,0)\d\d ms", found.obstacle)
        assert await connection.fetchval(_FLOOR) == high
        await set_clock(connection, 0.0)
        found, left = await floor.lower_floor(connection)
        assert (found.obstacle, left) == ("", 0)
        assert await connection.fetchval(_FLOOR) < high


async def test_lowering_waits_for_a_replay_under_way(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has seen the floor above its letter, and commits later."""
    monkeypatch.setattr(floor, "LOCK_SECONDS", 30.0)
    async with open_proof(dsn) as connection, open_proof(dsn) as replaying, open_proof(dsn) as lowering:
        await floor.raise_floor(connection, far_floor())
        [key] = await bury_spooled(connection, COUNTS, new_id())
        async with replaying.transaction():
            await replaying.execute("select from counting.dead_letter for update")
            lower = asyncio.create_task(floor.lower_floor(lowering))
            await waits(connection)
            await replaying.execute(
                "update counting.dead_letter set state = 'replayed', replayed_events = events, generation = 1, "
                "decided_at = now()"
            )
        found, _ = await lower
        assert str(key.request_id) in found.obstacle


async def test_an_insert_that_does_not_end_keeps_its_own_log_above_until_a_shard_tries_again(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floor, "LOCK_SECONDS", 0.2)
    async with open_proof(dsn) as connection, open_proof(dsn) as inserting:
        await floor.raise_floor(connection, far_floor())
        log = await open_log(dsn, PostgresSettings(), FAST, "shard")
        async with inserting.transaction():
            await inserting.execute("select from counting.log for key share")
            found, left = await floor.lower_floor(connection)
            assert (found.obstacle, left) == ("", 1)
        await look(dsn)
        assert await connection.fetchval("select state from counting.log") == "closed"
        log.abandon()
