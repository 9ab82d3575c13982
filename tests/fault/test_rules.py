"""Each rule of the model (tests/model/rules.py) in the code: exact with the rule, and caught without it.

Every test runs twice. The second time the code is changed just so far that the rule is switched off, and goes the way
to a wrong count that the model has found: the proof must fail, by so many events too many or too few. These are the
rules of inserts and flushes; those of recovery are in `test_rules_of_recovery.py`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from typing import Any

import pytest

from libs.domain.entry import Outcome
from libs.stores.postgres import PostgresSettings, connect
from libs.stores.write_connection import InDoubt, Refused, WriteConnection
from services.counting import shard as shards
from services.counting.flush import rollups
from services.counting.flush.flusher import Flusher
from services.counting.journal import journal
from services.counting.journal.appender import Appender, LogClosed
from services.counting.journal.entry import NumberedEntry
from services.counting.journal.journal import Answer, Journal
from services.counting.journal.log import Log, open_log
from services.counting.journal.queue import QueuedEntry, complete
from services.counting.settings import CountingSettings, FlushSettings, JournalSettings, RecoverySettings
from services.counting.shard import Shard
from tests.support.entries import cut_request, new_id
from tests.support.eventually import eventually
from tests.support.letters import refuse, refuse_no_more
from tests.support.life import backlog, open_life, take_over
from tests.support.proof import open_proof
from tests.support.proxy import Cut, open_proxy
from tests.support.rules import WITH_AND_WITHOUT, X_EVENTS, X, Y, judge, without
from tests.support.shards import NEVER, open_shard, quick, send

pytestmark = [pytest.mark.exact, WITH_AND_WITHOUT]

_HOLD = """
insert into counting.journal (request_id, partition, log_id, seq, received_at, events, request_hash, payload)
values ($1, $2, 0, 1, now(), 1, 0, '')"""
_IS_HELD = """
select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')"""
_IS_FLUSHED = "select exists (select from counting.flush_log)"


async def ask(connection: Any, question: str) -> None:
    """Wait until the answer to a query is yes."""

    async def is_so() -> bool:
        return bool(await connection.fetchval(question))

    await eventually(is_so)


# The insert.


async def test_only_the_answer_of_an_open_log_tells_duplicates(
    dsn: str, is_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert = Journal.insert

    async def believe(self: Journal, group: Sequence[NumberedEntry]) -> Answer:
        told = await insert(self, group)
        return told if told.is_open else Answer(True, frozenset(), frozenset(each.seq for each in group))

    if not is_on:
        monkeypatch.setattr(Journal, "insert", believe)
    async with open_life(dsn) as life:
        assert await take_over(dsn, life.log.log_id)
        if is_on:
            with pytest.raises(LogClosed):
                await life.send(X)
        else:
            assert await life.send(X) == {Outcome.DUPLICATE}
    await judge(dsn, {} if is_on else X, 0 if is_on else -X_EVENTS)


async def test_a_log_has_one_insert_under_way(dsn: str, is_on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one is held up; a second one at the same time is committed before it."""
    if not is_on:
        monkeypatch.setattr(Shard, "_append_groups", append_groups_at_once)
        monkeypatch.setattr(Journal, "insert", insert_on_a_connection_of_its_own(dsn))
    patient = CountingSettings(
        journal=JournalSettings(insert_timeout_seconds=7.0),
        flush=FlushSettings(interval_seconds=0.05),
        recovery=RecoverySettings(),
    )
    request_id = new_id()
    [entry] = cut_request(X, request_id)
    async with open_shard(dsn, patient) as shard, open_proof(dsn) as holding, open_proof(dsn) as connection:
        held = holding.transaction()
        await held.start()
        await holding.execute(_HOLD, request_id, entry.partition)
        first = asyncio.create_task(send(shard, X, request_id))
        await ask(connection, _IS_HELD)
        second = asyncio.create_task(send(shard, Y))
        if not is_on:
            await ask(connection, _IS_FLUSHED)
        await held.rollback()
        assert await first == await second == {Outcome.JOURNALED}
    await judge(dsn, {**X, **Y}, 0 if is_on else -X_EVENTS)


async def append_groups_at_once(self: Shard, appender: Appender, flusher: Flusher) -> None:
    async def append(group: list[QueuedEntry]) -> None:
        await appender.append(group)
        flusher.note_arrival()

    async with asyncio.TaskGroup() as inserts:
        while True:
            inserts.create_task(append(await self._queue.take_group()))


def insert_on_a_connection_of_its_own(dsn: str) -> Callable[..., Awaitable[Answer]]:
    insert = Journal.insert

    async def insert_there(self: Journal, group: Sequence[NumberedEntry]) -> Answer:
        async with open_proof(dsn) as connection:
            return await insert(Journal(WriteConnection(connection), self._log_id, 7.0), group)

    return insert_there


async def test_nothing_is_acknowledged_before_its_commit(
    dsn: str, is_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert = Appender._insert

    async def answer_first(self: Appender, numbered: Any, group: Sequence[QueuedEntry]) -> None:
        for queued in group:
            complete(queued, Outcome.JOURNALED)
        await insert(self, numbered, group)

    if not is_on:
        monkeypatch.setattr(Appender, "_insert", answer_first)
    async with open_proxy(dsn) as proxy, open_life(proxy.dsn) as life:
        assert await life.send(Y) == {Outcome.JOURNALED}
        proxy.cuts["counting inserts"] = Cut.BEFORE_REQUEST
        if is_on:
            with pytest.raises(InDoubt):
                await life.send(X)
        else:
            assert await life.send(X) == {Outcome.JOURNALED}
        assert await take_over(dsn, life.log.log_id)
    await judge(dsn, Y if is_on else {**X, **Y}, 0 if is_on else -X_EVENTS)


async def test_only_new_entries_go_to_the_buffer(
    dsn: str, is_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert = Journal.insert

    async def call_all_new(self: Journal, group: Sequence[NumberedEntry]) -> Answer:
        told = await insert(self, group)
        return Answer(told.is_open, told.below_floor, frozenset())

    if not is_on:
        monkeypatch.setattr(Journal, "insert", call_all_new)
    await count_twice(dsn)
    await judge(dsn, X, 0 if is_on else X_EVENTS)


async def test_a_request_is_in_the_journal_once(
    dsn: str, is_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_on:
        without(monkeypatch, journal, "_INSERT", "on conflict (request_id, partition) do nothing")
        async with open_proof(dsn) as connection:
            await connection.execute("alter table counting.journal drop constraint journal_pkey")
    await count_twice(dsn)
    await judge(dsn, X, 0 if is_on else X_EVENTS)


async def count_twice(dsn: str) -> None:
    async with open_life(dsn) as life:
        request_id = new_id()
        for _ in range(2):
            assert await life.send(X, request_id) <= {Outcome.JOURNALED, Outcome.DUPLICATE}
        assert await life.commit(life.take())
        assert await take_over(dsn, life.log.log_id)


# In doubt.


async def test_whoever_is_in_doubt_writes_no_more_to_the_same_log(
    dsn: str, is_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The insert is committed, and its answer lost."""
    if not is_on:
        monkeypatch.setattr(shards, "open_log", go_on_with_the_first_log())
    async with open_proof(dsn) as connection, open_proxy(dsn) as proxy, open_shard(proxy.dsn) as shard:
        await send(shard, Y)  # from here on the next request is the insert itself
        await ask(connection, _IS_FLUSHED)
        proxy.cuts["counting inserts"] = Cut.BEFORE_ANSWER
        assert await send(shard, X) == {Outcome.DUPLICATE}
    await judge(dsn, {**X, **Y}, 0 if is_on else -X_EVENTS)


def go_on_with_the_first_log() -> Callable[..., Awaitable[Log]]:
    logs: list[Log] = []

    async def open_again(
        dsn: str, postgres: PostgresSettings, settings: RecoverySettings, name: str, **options: Any
    ) -> Log:
        if not logs:
            logs.append(await open_log(dsn, postgres, settings, name, **options))
            return logs[0]
        before = logs[-1]
        inserts, flushes = [
            WriteConnection(await connect(dsn, postgres, "another connection")) for _ in range(2)
        ]
        log = Log(before.log_id, inserts, flushes)
        log.last_seq, log.cut, log.applied = before.last_seq, before.cut, before.applied
        logs.append(log)
        return log

    return open_again


async def test_whoever_gives_a_log_up_drops_its_buffer(
    dsn: str, is_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = backlog()
    if not is_on:
        monkeypatch.setattr(shards, "Backlog", lambda _most_cells: kept)
    async with open_shard(dsn, quick(NEVER)) as shard, open_proof(dsn) as connection:
        assert await send(shard, X) == {Outcome.JOURNALED}
        assert await take_over(dsn, await connection.fetchval("select log_id from counting.log"))
        assert await send(shard, Y) == {Outcome.JOURNALED}
    await judge(dsn, {**X, **Y}, 0 if is_on else X_EVENTS)


# The flush.


async def test_a_flush_moves_the_checkpoint_from_where_it_is(
    dsn: str, is_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flush that was sent before a takeover is committed after it."""
    if not is_on:
        without(monkeypatch, rollups, "_ADVANCE", "applied_seq = $2\n", "applied_seq >= $2\n")
    async with open_life(dsn) as life:
        assert await life.send(X) == {Outcome.JOURNALED}
        late = life.take()
        assert await life.send(Y) == {Outcome.JOURNALED}
        assert await take_over(dsn, life.log.log_id)
        assert await life.commit(late) == (not is_on)
    await judge(dsn, {**X, **Y}, 0 if is_on else X_EVENTS)


async def test_a_flush_moves_the_checkpoint_and_adds_in_one_transaction(dsn: str, is_on: bool) -> None:
    """The second statement is refused, and the shard does not come to try again."""
    async with open_life(dsn) as life, open_proof(dsn) as connection:
        assert await life.send(X) == {Outcome.JOURNALED}
        await refuse(connection, "x")
        if not is_on:
            life.log.flushes = WriteConnection(Autocommit(life.connection))
        with pytest.raises(Refused):
            await life.commit(life.take())
        await refuse_no_more(connection)
        assert await take_over(dsn, life.log.log_id)
    await judge(dsn, X, 0 if is_on else -X_EVENTS)


class Autocommit:
    """A connection that keeps each statement by itself."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def transaction(self) -> Any:
        return nullcontext()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)
