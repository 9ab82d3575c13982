"""An entry that is too large for one transaction is applied in parts, and is exact at every moment between them."""

from typing import Any

import asyncpg
import pytest

from libs.domain.blocks import encode
from libs.domain.entry import Entry, Outcome
from libs.domain.minutes import MinuteRange
from libs.stores.postgres import PostgresSettings
from services.counting.dead_letters.decisions import Decisions
from services.counting.dead_letters.letters import Key
from services.counting.flush import rollups
from services.counting.flush.rollups import apply
from services.counting.journal.position import Position
from services.counting.journal.queue import Queue
from services.counting.recovery import recovery
from services.counting.recovery.recovery import Piece
from services.counting.settings import CountingSettings, FlushSettings, JournalSettings
from services.query.pending import read_everything
from services.query.proof import audit
from services.query.question import Question, Size
from services.query.unsettled import Unsettled
from tally.contract.errors import AlreadyDecided, Unavailable
from tests.support.entries import spread_over_minutes
from tests.support.letters import waiting
from tests.support.life import Life, backlog, open_life, take_over
from tests.support.proof import assert_exact, assert_proven, open_proof, rolled_up
from tests.support.rollups import MINUTE
from tests.support.rules import WITH_AND_WITHOUT, judge, without
from tests.support.shards import FAST, open_shard

pytestmark = pytest.mark.exact

VIDEO = "large"
EVENTS = 1_000
PART = 300
COUNTS = {(VIDEO, "view"): EVENTS}

# A cell in 2 ms and more: all of them take longer than a transaction may.
_SLOW = """
create function slow() returns trigger language plpgsql as $$
begin perform pg_sleep(0.002 * new.cells); return new; end $$;
create trigger slow before insert on counting.rollup_block_1 for each row execute function slow()"""
# Each entry has one event in each of many minutes.
_REFUSE_LATE = f"""
alter table counting.rollup_block add constraint odd
    check (position('large'::bytea in body) = 0 or {MINUTE} + cells <= {{minute}})"""
_PARTS = "select count(*) from counting.flush_log where to_events > 0"
_FIRST_MINUTE = 946_684_800 // 60


async def journal(life: Life, most_cells: int = PART) -> Entry:
    """Insert the large entry, for a flush in steps of so many cells."""
    life.appender.backlog = backlog(most_cells)
    entry = spread_over_minutes(VIDEO, EVENTS)
    queue = Queue(JournalSettings())
    [outcome] = queue.enqueue([entry])
    await life.appender.append(await queue.take_group())
    assert outcome.result() is Outcome.JOURNALED
    return entry


async def flush_steps(life: Life, count: int) -> None:
    """Flush so many steps."""
    for step in list(life.appender.backlog.take(life.log.cut))[:count]:
        blocks = encode(step.buffer.run())
        assert await apply(life.connection, life.log.log_id, life.log.applied, step.end, blocks, 100)
        life.log.applied = step.end


async def assert_readable(dsn: str, connection: Any, entry: Entry) -> None:
    """Strong reads have all of it, whatever the rollups have, and the audit finds no discrepancy."""
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
        for minutes, count in (
            (MinuteRange(), EVENTS),
            (MinuteRange(_FIRST_MINUTE + 250, _FIRST_MINUTE + 350), 100),
        ):
            question, size = Question(VIDEO, "view", minutes), Size(None, EVENTS)
            async with pool.acquire() as reader:
                reading = await read_everything(reader, Unsettled(), question, size, entry.partition)
            assert reading.cell.count == count
    await assert_no_discrepancy(connection)


async def assert_no_discrepancy(connection: Any) -> None:
    found = await audit(connection)
    assert (
        found["counted_events"] == found["journaled_events"] - found["dead_events"] + found["replayed_events"]
    )


@pytest.mark.parametrize("steps", [0, 1, 3, 4])
async def test_a_log_that_ends_between_two_parts_is_recovered_from_there(dsn: str, steps: int) -> None:
    async with open_life(dsn) as life, open_proof(dsn) as connection:
        entry = await journal(life)
        await flush_steps(life, steps)
        assert sum((await rolled_up(connection)).values()) == min(steps * PART, EVENTS)
        await assert_readable(dsn, connection, entry)
        assert await take_over(dsn, life.log.log_id)
        await assert_readable(dsn, connection, entry)
    await assert_exact(dsn, COUNTS)


async def test_recovery_itself_applies_parts_and_may_be_cut_off_between_them(dsn: str) -> None:
    async with open_life(dsn) as life, open_proof(dsn) as connection:
        entry = await journal(life)
        settings = FAST.model_copy(update={"piece_events": 70})
        async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
            recovering = recovery.Recovery(pool, settings, FlushSettings())
            assert await recovering._close(life.log.log_id)
            while await recovering._apply_piece(life.log.log_id):
                await assert_readable(dsn, connection, entry)
        assert await connection.fetchval(_PARTS) == EVENTS // 70
        assert await take_over(dsn, life.log.log_id)
    await assert_exact(dsn, COUNTS)


async def test_an_entry_that_takes_longer_than_a_transaction_is_counted(dsn: str) -> None:
    """By a shard whose first flush of it comes to nothing, and which knows better from then on."""
    recovery_settings = FAST.model_copy(update={"piece_events": 2 * EVENTS})
    settings = CountingSettings(flush=FlushSettings(interval_seconds=0.05), recovery=recovery_settings)
    async with open_proof(dsn) as connection, open_shard(dsn, settings) as shard:
        await connection.execute(_SLOW)
        assert await shard.append([spread_over_minutes(VIDEO, EVENTS)]) == [Outcome.JOURNALED]
        await assert_exact(dsn, COUNTS, within_seconds=60)
        assert await connection.fetchval(_PARTS) >= 1
        assert await connection.fetchval("select count(*) from counting.dead_letter") == 0


async def test_a_shard_that_flushes_in_parts_keeps_its_log(dsn: str) -> None:
    settings = CountingSettings(
        flush=FlushSettings(interval_seconds=0.05, max_cells=PART, statement_cells=70), recovery=FAST
    )
    async with open_proof(dsn) as connection, open_shard(dsn, settings) as shard:
        for turn in range(1, 4):
            assert await shard.append([spread_over_minutes(VIDEO, EVENTS)]) == [Outcome.JOURNALED]
            await assert_exact(dsn, {(VIDEO, "view"): turn * EVENTS})
        assert await connection.fetchval(_PARTS) == 3 * (EVENTS // PART)
        assert await connection.fetchval("select count(*) from counting.log") == 1


@pytest.mark.parametrize("has_parts", [True, False], ids=["in parts", "at once"])
async def test_of_an_entry_that_is_refused_the_rest_becomes_a_dead_letter(dsn: str, has_parts: bool) -> None:
    """And no event of it is counted twice, or never, when that is replayed."""
    settings = FAST.model_copy(update={"piece_events": PART if has_parts else EVENTS})
    async with open_life(dsn) as life, open_proof(dsn) as connection:
        await journal(life)
        await connection.execute(_REFUSE_LATE.format(minute=_FIRST_MINUTE + 500))
        assert await take_over(dsn, life.log.log_id, settings)
        [letter] = await connection.fetch("select events, reason from counting.dead_letter")
        applied = PART if has_parts else 0
        assert letter["events"] == EVENTS - applied
        assert await rolled_up(connection) == ({(VIDEO, "view"): applied} if applied else {})
        await assert_proven(connection)
        await assert_no_discrepancy(connection)
        await connection.execute("alter table counting.rollup_block drop constraint odd")
        [key] = await waiting(connection)
        assert (await decisions_of(dsn).replay(key)).letter["state"] == "replayed"
        await assert_no_discrepancy(connection)
    await assert_exact(dsn, COUNTS)


async def test_an_entry_that_cannot_be_read_has_no_parts(dsn: str) -> None:
    settings = FAST.model_copy(update={"piece_events": PART})
    async with open_life(dsn) as life, open_proof(dsn) as connection:
        await journal(life)
        await connection.execute("update counting.journal set payload = '\\xff'")
        assert await take_over(dsn, life.log.log_id, settings)
        assert await connection.fetchval("select events from counting.dead_letter") == EVENTS
        await assert_proven(connection)


async def test_a_shard_of_an_earlier_version_cannot_pass_over_the_rest_of_an_entry(dsn: str) -> None:
    async with open_life(dsn) as life, open_proof(dsn) as connection:
        await journal(life)
        await flush_steps(life, 1)
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute("update counting.checkpoint set applied_seq = 1 where applied_seq = 0")


# The rules of the model that are about parts: see test_rules.py.


@WITH_AND_WITHOUT
async def test_a_flush_compares_how_much_of_an_entry_is_applied(
    dsn: str, is_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flush that was sent before a takeover is committed when recovery has applied a part."""
    if not is_on:
        without(monkeypatch, rollups, "_ADVANCE", "applied_events = $3", "$3::integer is not null")
    settings = FAST.model_copy(update={"piece_events": PART})
    async with open_life(dsn) as life, asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
        await journal(life, EVENTS)
        late = life.take()
        recovering = recovery.Recovery(pool, settings, FlushSettings())
        assert await recovering._close(life.log.log_id)
        assert await recovering._apply_piece(life.log.log_id)
        assert await life.commit(late) == (not is_on)
        assert await recovering.take_over(life.log.log_id)
    await judge(dsn, COUNTS, 0 if is_on else PART)


@WITH_AND_WITHOUT
async def test_recovery_adds_only_the_rest_of_an_entry(
    dsn: str, is_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Piece.read

    def read_all(self: Piece) -> Any:
        return read(Piece(Position(self.start.seq), self.end, self.rows))

    if not is_on:
        monkeypatch.setattr(Piece, "read", read_all)
    async with open_life(dsn) as life:
        await journal(life)
        await flush_steps(life, 1)
        assert await take_over(dsn, life.log.log_id)
    await judge(dsn, COUNTS, 0 if is_on else PART)


# The replay of a letter.


def decisions_of(dsn: str, part: int = PART) -> Decisions:
    """Whose transactions have at most so many events of a letter."""
    return Decisions(dsn, PostgresSettings(), FAST, FlushSettings(statement_cells=part))


async def bury(dsn: str, connection: Any) -> Key:
    """The large entry as a dead letter."""
    async with open_life(dsn) as life:
        await journal(life)
        await connection.execute(_REFUSE_LATE.format(minute=_FIRST_MINUTE + 5))
        assert await take_over(dsn, life.log.log_id)
        await connection.execute("alter table counting.rollup_block drop constraint odd")
    [key] = await waiting(connection)
    return key


async def test_a_large_letter_is_replayed_in_parts_and_goes_on_where_it_was_cut_off(dsn: str) -> None:
    async with open_proof(dsn) as connection:
        key = await bury(dsn, connection)
        await connection.execute(_REFUSE_LATE.format(minute=_FIRST_MINUTE + 700))
        decisions = decisions_of(dsn)
        with pytest.raises(Exception, match="the rollups refuse"):
            await decisions.replay(key)
        assert await rolled_up(connection) == {(VIDEO, "view"): 2 * PART}
        await assert_proven(connection)
        await assert_no_discrepancy(connection)
        with pytest.raises(AlreadyDecided, match=r"600 of 1,000 events are replayed; replay it again"):
            await decisions.drop(key)
        await connection.execute("alter table counting.rollup_block drop constraint odd")
        decision = await decisions.replay(key)
        assert (decision.letter["state"], decision.letter["note"]) == ("replayed", "")
        assert (await decisions.replay(key)).was_decided
        await assert_no_discrepancy(connection)
    await assert_exact(dsn, COUNTS)


async def test_a_letter_that_takes_longer_than_a_transaction_is_replayed_when_it_is_asked_for_again(
    dsn: str,
) -> None:
    async with open_proof(dsn) as connection:
        key = await bury(dsn, connection)
        await connection.execute(_SLOW)
        decisions = decisions_of(dsn, EVENTS)
        with pytest.raises(Unavailable, match="ask again"):
            await decisions.replay(key)
        assert (await decisions.replay(key)).letter["state"] == "replayed"
    await assert_exact(dsn, COUNTS)
