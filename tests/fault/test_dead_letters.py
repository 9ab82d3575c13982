"""A dead letter is decided once: its events are counted once or never, and the audit adds up either way."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from libs.domain.horizon import floor_at
from libs.stores import floor
from libs.stores.postgres import PostgresSettings
from libs.stores.write_connection import WriteConnection
from services.counting.dead_letters.decisions import JOURNALED
from services.counting.dead_letters.letters import Key
from services.counting.journal.entry import NumberedEntry
from services.counting.journal.journal import Journal
from services.counting.journal.log import open_log
from services.query.proof import audit
from tally.contract.errors import AlreadyDecided, NotFound, NotReplayable, Unavailable
from tally.contract.request_id import first_id_of, make_request_id, time_ms_of
from tests.support.entries import as_entry, cut_request, new_id
from tests.support.eventually import eventually
from tests.support.letters import (
    RECEIVED_AT_US,
    bury_journaled,
    bury_spooled,
    old_id,
    open_decisions,
    refuse,
    refuse_no_more,
    waiting,
)
from tests.support.proof import assert_proven, open_proof, rolled_up
from tests.support.proxy import Cut, open_proxy
from tests.support.rollups import read_rollups
from tests.support.shards import FAST, NEVER, open_shard, quick, send

pytestmark = pytest.mark.exact

COUNTS = {("video", "view"): 3, ("video", "like"): 2}
SPREAD = {(f"video {n}", "view"): n + 1 for n in range(8)}
_STATE = "select state, generation, decided_at, note from counting.dead_letter where request_id = $1 and partition = $2"
_WAITS_FOR_LOCK = """
select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"""


async def state_of(connection: Any, key: Key) -> tuple[str, int | None, bool, str]:
    """Its state, the generation of its events, whether it says when it was decided, and the note."""
    row = await connection.fetchrow(_STATE, key.request_id, key.partition)
    return row["state"], row["generation"], row["decided_at"] is not None, row["note"]


async def assert_counted(connection: Any, counts: dict[tuple[str, str], int]) -> None:
    """By the rollups, by what the database proves of itself, and by the audit."""
    assert await rolled_up(connection) == Counter(counts)
    await assert_proven(connection)
    found = await audit(connection)
    assert found["counted_events"] == sum(counts.values())
    assert (
        found["counted_events"] == found["journaled_events"] - found["dead_events"] + found["replayed_events"]
    )


async def raise_floor(dsn: str) -> None:
    """As upkeep does."""
    async with open_proof(dsn) as connection:
        now_ms = await connection.fetchval("select (extract(epoch from clock_timestamp()) * 1000)::bigint")
        await floor.raise_floor(connection, floor_at(now_ms))
        await floor.align_logs(connection)


async def until_locked(connection: Any, sessions: int = 1) -> None:
    async def is_waiting() -> bool:
        return bool(await connection.fetchval(_WAITS_FOR_LOCK) >= sessions)

    await eventually(is_waiting)


async def test_a_replay_counts_the_events_of_a_letter_once(dsn: str) -> None:
    async with open_proof(dsn) as connection:
        [key] = await bury_journaled(connection, dsn, COUNTS)
        await assert_counted(connection, {})
        decisions = open_decisions(dsn)
        decision = await decisions.replay(key)
        assert (decision.letter["state"], decision.was_decided) == ("replayed", False)
        assert await state_of(connection, key) == ("replayed", 1, True, "")
        await assert_counted(connection, COUNTS)
        again = await decisions.replay(key)
        assert (again.letter["state"], again.was_decided) == ("replayed", True)
        with pytest.raises(AlreadyDecided, match="was replayed at"):
            await decisions.drop(key)
        await assert_counted(connection, COUNTS)


async def test_events_without_a_time_are_replayed_into_the_minute_of_their_receipt(dsn: str) -> None:
    async with open_proof(dsn) as connection:
        for key in await bury_spooled(connection, COUNTS, await old_id(connection)):
            await open_decisions(dsn).replay(key)
        minutes = {key.minute for key in await read_rollups(connection)}
        assert minutes == {RECEIVED_AT_US // 60_000_000}


async def test_a_dropped_letter_is_kept_and_never_counted(dsn: str) -> None:
    async with open_proof(dsn) as connection:
        [key] = await bury_journaled(connection, dsn, COUNTS)
        decisions = open_decisions(dsn)
        assert not (await decisions.drop(key)).was_decided
        assert (await decisions.drop(key)).was_decided
        with pytest.raises(AlreadyDecided, match="was dropped at"):
            await decisions.replay(key)
        assert await state_of(connection, key) == ("dropped", None, True, "")
        await assert_counted(connection, {})


async def test_of_two_replays_at_once_one_counts(dsn: str) -> None:
    async with open_proof(dsn) as connection, open_proof(dsn) as holding:
        [key] = await bury_journaled(connection, dsn, COUNTS)
        async with holding.transaction():
            await holding.execute("select from counting.dead_letter for update")
            replays = [asyncio.create_task(open_decisions(dsn).replay(key)) for _ in range(2)]
            await until_locked(connection, 2)
        decisions = await asyncio.gather(*replays)
        assert sorted(decision.was_decided for decision in decisions) == [False, True]
        assert {decision.letter["state"] for decision in decisions} == {"replayed"}
        await assert_counted(connection, COUNTS)


async def test_of_a_replay_and_a_drop_at_once_one_holds(dsn: str) -> None:
    async with open_proof(dsn) as connection, open_proof(dsn) as holding:
        [key] = await bury_journaled(connection, dsn, COUNTS)
        async with holding.transaction():
            await holding.execute("select from counting.dead_letter for update")
            both = [
                asyncio.create_task(open_decisions(dsn).replay(key)),
                asyncio.create_task(open_decisions(dsn).drop(key)),
            ]
            await until_locked(connection, 2)
        ends = await asyncio.gather(*both, return_exceptions=True)
        assert [type(end) for end in ends].count(AlreadyDecided) == 1
        is_replayed = (await state_of(connection, key))[0] == "replayed"
        await assert_counted(connection, COUNTS if is_replayed else {})


@pytest.mark.parametrize("cut", list(Cut))
async def test_a_replay_without_an_answer_is_asked_again_and_counts_once(dsn: str, cut: Cut) -> None:
    async with open_proof(dsn) as connection, open_proxy(dsn) as proxy:
        [key] = await bury_journaled(connection, dsn, COUNTS)

        def cut_the_commit(name: str, request: bytes) -> None:
            if "dead letters" in name and b"COMMIT" in request:
                proxy.on_request = None
                proxy.cuts["dead letters"] = cut

        proxy.on_request = cut_the_commit
        decisions = open_decisions(proxy.dsn)
        with pytest.raises(Unavailable, match="ask again"):
            await decisions.replay(key)
        assert proxy.cut_count == 1
        again = await decisions.replay(key)
        assert again.letter["state"] == "replayed"
        assert again.was_decided == (cut is Cut.BEFORE_ANSWER)
        await assert_counted(connection, COUNTS)


async def test_a_letter_waits_while_its_reason_holds(dsn: str) -> None:
    async with open_proof(dsn) as connection:
        [key] = await bury_journaled(connection, dsn, COUNTS)
        await refuse(connection, "video")
        for _ in range(2):
            with pytest.raises(NotReplayable, match='violates check constraint "odd"'):
                await open_decisions(dsn).replay(key)
        assert await waiting(connection) == [key]
        await assert_counted(connection, {})
        await refuse_no_more(connection)
        await open_decisions(dsn).replay(key)
        await assert_counted(connection, COUNTS)


async def test_a_letter_that_cannot_be_read_can_only_be_dropped(dsn: str) -> None:
    async with open_proof(dsn) as connection:
        async with open_shard(dsn, quick(NEVER), is_killed=True) as shard:
            await send(shard, COUNTS)
        await connection.execute("update counting.journal set payload = '\\xff'")
        async with open_shard(dsn, name="next"):

            async def is_set_aside() -> bool:
                return bool(await waiting(connection))

            await eventually(is_set_aside)
        [key] = await waiting(connection)
        with pytest.raises(NotReplayable, match=r"cannot be read: .*Drop it"):
            await open_decisions(dsn).replay(key)
        assert await waiting(connection) == [key]
        await open_decisions(dsn).drop(key)
        await assert_counted(connection, {})


async def test_a_letter_with_fewer_events_than_were_received_is_not_replayed(dsn: str) -> None:
    async with open_proof(dsn) as connection:
        [key] = await bury_journaled(connection, dsn, COUNTS)
        await connection.execute("update counting.dead_letter set payload = ''")
        with pytest.raises(NotReplayable, match="has 0 events, and 5 were received"):
            await open_decisions(dsn).replay(key)
        assert await waiting(connection) == [key]


async def test_a_replay_among_flushes_of_the_same_videos_loses_nothing(dsn: str) -> None:
    async with open_proof(dsn) as connection:
        keys = []
        for _ in range(3):
            request_id = await old_id(connection)
            keys += await bury_spooled(connection, SPREAD, request_id)
        keys = await waiting(connection)
        decisions = open_decisions(dsn)
        async with open_shard(dsn) as shard:
            for key in keys:
                await asyncio.gather(decisions.replay(key), send(shard, SPREAD))
        await assert_counted(connection, {each: n * (3 + len(keys)) for each, n in SPREAD.items()})


# Letters that were never in the journal


async def test_a_letter_that_was_never_journaled_is_counted_by_its_replay(dsn: str) -> None:
    async with open_proof(dsn) as connection:
        async with open_shard(dsn) as shard:
            await send(shard, SPREAD)
            keys = await bury_spooled(connection, SPREAD, await old_id(connection))
            assert len(keys) > 1
            for key in keys:
                assert (await open_decisions(dsn).replay(key)).letter["state"] == "replayed"
        await assert_counted(connection, {each: 2 * n for each, n in SPREAD.items()})
        assert (await audit(connection))["replayed_events"] == sum(SPREAD.values())


async def test_a_letter_whose_entry_was_journaled_after_all_is_dropped_by_its_replay(dsn: str) -> None:
    async with open_proof(dsn) as connection:
        request_id = make_request_id(
            time_ms_of(await connection.fetchval("select floor from public.cluster")) + 1
        )
        async with open_shard(dsn) as shard:
            await send(shard, COUNTS, request_id)
        [key] = await bury_spooled(connection, COUNTS, request_id)
        decision = await open_decisions(dsn).replay(key)
        assert (decision.letter["state"], decision.letter["note"]) == ("dropped", JOURNALED)
        with pytest.raises(AlreadyDecided, match="journal already"):
            await open_decisions(dsn).replay(key)
        await assert_counted(connection, COUNTS)


async def test_a_letter_whose_id_was_used_for_other_events_is_never_counted(dsn: str) -> None:
    async with open_proof(dsn) as connection:
        request_id = new_id()
        async with open_shard(dsn) as shard:
            await send(shard, COUNTS, request_id)
        [key] = await bury_spooled(connection, {("video", "view"): 4}, request_id)
        with pytest.raises(NotReplayable, match="other events are in the journal under its id"):
            await open_decisions(dsn).replay(key)
        assert await waiting(connection) == [key]
        await assert_counted(connection, COUNTS)


async def test_a_letter_that_a_shard_may_still_count_is_not_replayed(dsn: str) -> None:
    """It is above the floor of the cluster, or of one log that is behind."""
    async with open_proof(dsn) as connection:
        young = new_id()
        behind = await open_log(dsn, PostgresSettings(), FAST, "shard")
        try:
            old = await old_id(connection)
            await connection.execute("update counting.log set floor = opening_floor")
            for request_id in (young, old):
                await bury_spooled(connection, COUNTS, request_id)
            for key in await waiting(connection):
                with pytest.raises(NotReplayable, match=r"may still count it. Ask again after 20"):
                    await open_decisions(dsn).replay(key)
            await assert_counted(connection, {})
            await connection.execute("update counting.log set floor = cluster.floor from public.cluster")
            [old_key] = [key for key in await waiting(connection) if key.request_id == old]
            await open_decisions(dsn).replay(old_key)
            await assert_counted(connection, COUNTS)
        finally:
            behind.abandon()


async def test_a_letter_whose_entry_is_on_its_way_into_the_journal_is_not_counted_twice(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The insert began when the id was above the floor; the floor is raised behind it."""
    monkeypatch.setattr(floor, "LOCK_SECONDS", 30.0)
    async with open_proof(dsn) as connection, open_proof(dsn) as inserting:
        log = await open_log(dsn, PostgresSettings(), FAST, "shard")
        request_id = make_request_id(
            time_ms_of(await connection.fetchval("select floor from public.cluster")) + 1
        )
        [key] = await bury_spooled(connection, COUNTS, request_id)
        [entry] = [as_entry(sent) for sent in cut_request(COUNTS, request_id)]
        async with inserting.transaction():
            group = [NumberedEntry(1, RECEIVED_AT_US, entry)]
            await Journal(WriteConnection(inserting), log.log_id, 5.0).insert(group)
            raising = asyncio.create_task(raise_floor(dsn))
            await until_locked(connection)
            with pytest.raises(NotReplayable, match="may still count it"):
                await open_decisions(dsn).replay(key)
        await raising
        assert (await open_decisions(dsn).replay(key)).letter["note"] == JOURNALED
        log.abandon()
        async with open_shard(dsn, name="next"):

            async def is_counted() -> bool:
                return await rolled_up(connection) == Counter(COUNTS)

            await eventually(is_counted)
        await assert_counted(connection, COUNTS)


async def test_a_letter_older_than_the_journal_is_not_replayed(dsn: str) -> None:
    async with open_proof(dsn) as connection:
        month_ms = 30 * 86_400_000
        ancient = make_request_id(time_ms_of(new_id()) - month_ms)
        [key] = await bury_spooled(connection, COUNTS, ancient)
        with pytest.raises(NotReplayable, match="no entries of its day"):
            await open_decisions(dsn).replay(key)
        assert await waiting(connection) == [key]
        # The partition of its day comes back to where it was: first below what the day has, then above.
        await connection.execute(
            "create table counting.journal_ancient (like counting.journal including all)"
        )
        for first_ms, end_ms, is_there in ((-2, 0, False), (1, 2, False), (0, 1, True)):
            first, end = (first_id_of(time_ms_of(ancient) + ms) for ms in (first_ms, end_ms))
            await connection.execute(
                "alter table counting.journal attach partition counting.journal_ancient "
                f"for values from ('{first}') to ('{end}')"
            )
            if is_there:
                await open_decisions(dsn).replay(key)
            else:
                with pytest.raises(NotReplayable, match="no entries of its day"):
                    await open_decisions(dsn).replay(key)
                await connection.execute(
                    "alter table counting.journal detach partition counting.journal_ancient"
                )
        await assert_counted(connection, COUNTS)


@pytest.mark.parametrize("is_dropped", [False, True])
async def test_the_journals_own_letter_takes_the_place_of_a_spools(dsn: str, is_dropped: bool) -> None:
    """Journaled and not applied yet when the spool gave its copy up; then the rollups refuse it."""
    async with open_proof(dsn) as connection:
        request_id = new_id()
        [key] = await bury_spooled(connection, COUNTS, request_id)
        if is_dropped:
            await open_decisions(dsn).drop(key)
        await refuse(connection, "video")
        async with open_shard(dsn) as shard:
            await send(shard, COUNTS, request_id)

            async def is_the_journals() -> bool:
                return bool(await connection.fetchval("select log_id is not null from counting.dead_letter"))

            await eventually(is_the_journals)
        await refuse_no_more(connection)
        assert await waiting(connection) == [key]
        await assert_counted(connection, {})
        await open_decisions(dsn).replay(key)
        await assert_counted(connection, COUNTS)


async def test_a_replayed_letter_is_not_waiting_again_when_another_spool_has_it_too(dsn: str) -> None:
    async with open_proof(dsn) as connection:
        request_id = await old_id(connection)
        [key] = await bury_spooled(connection, COUNTS, request_id)
        await open_decisions(dsn).replay(key)
        assert await bury_spooled(connection, COUNTS, request_id) == []
        assert (await open_decisions(dsn).replay(key)).was_decided
        await assert_counted(connection, COUNTS)


# Sealing


async def test_sealing_waits_for_a_replay_and_a_replay_for_sealing(dsn: str) -> None:
    async with open_proof(dsn) as connection, open_proof(dsn) as sealing, open_proof(dsn) as holding:
        [first] = await bury_journaled(connection, dsn, COUNTS)
        await connection.execute(
            "create table counting.rollup_block_2 partition of counting.rollup_block for values in (2)"
        )
        async with holding.transaction():
            await holding.execute("lock table counting.rollup_block in share mode")
            replay = asyncio.create_task(open_decisions(dsn).replay(first))
            await until_locked(connection)
            seal = asyncio.create_task(sealing.execute("update counting.generation set sealed_at = now()"))
            await until_locked(connection, 2)
        await replay
        await seal
        assert (await state_of(connection, first))[1] == 1
        [second] = await bury_spooled(connection, COUNTS, await old_id(connection))
        with pytest.raises(Unavailable, match="being sealed"):
            await open_decisions(dsn).replay(second)
        await connection.execute("insert into counting.generation (generation) values (2)")
        await open_decisions(dsn).replay(second)
        assert (await state_of(connection, second))[1] == 2
        await assert_counted(connection, {each: 2 * n for each, n in COUNTS.items()})


async def test_a_letter_that_is_not_there_is_named(dsn: str) -> None:
    key = Key(new_id(), 1)
    for decide in (open_decisions(dsn).replay, open_decisions(dsn).drop):
        with pytest.raises(NotFound, match=str(key)):
            await decide(key)
