"""Each invariant finds what is wrong: a violation is made up in a database where everything was right."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tally.client import Batch, Columns, Durability, Event, Receipt
from tests.fault.table import invariants
from tests.fault.table.ledger import Ledger, LedgerFile, Request, read_ledger
from tests.fault.table.requests import new_id
from tests.fault.table.strikes.rivals import entries_of
from tests.support.database import PARTITION_COUNT
from tests.support.entries import as_entry
from tests.support.proof import find_wrong, is_applied, open_proof
from tests.support.servers import Servers, fresh_database
from tests.support.shards import open_shard
from tests.support.stack import OpenService

PREFIX = "round/"
ADD = """
insert into counting.rollup_row (generation, video_id, event_type, minute, count, value_count, sum, min, max)
values (1, 'round/{video}', '{kind}', 0, {count}, {values}, {sum}, {bounds})"""
"""Blocks are not changed by hand; a row from before there were blocks adds to them."""


def add(count: int, values: int = 0, total: float = 0.0, *, video: int = 0, kind: str = "view") -> str:
    """A statement that adds to what the rollups say."""
    bounds = f"{total}, {total}" if values else "null, null"
    return ADD.format(video=video, kind=kind, count=count, values=values, sum=total, bounds=bounds)


SPOOLED_LETTER = """
insert into counting.dead_letter (request_id, partition, received_at, request_hash, payload, events, reason)
select gen_random_uuid(), partition, received_at, request_hash, payload, events, '' from counting.journal where seq = 1;
"""
REPLAY = """
update counting.dead_letter set state = 'replayed', generation = 1, decided_at = now(), replayed_events = events;
insert into counting.replay_log (request_id, partition, from_event, to_event, generation)
select request_id, partition, 0, events, 1 from counting.dead_letter;
"""

Check = Callable[[Any, Ledger], Awaitable[list[str]]]
CHECKS: dict[str, Check] = {
    "counts": lambda connection, ledger: invariants.check_counts(connection, ledger, PREFIX),
    "values": lambda connection, _: invariants.check_values(connection, PREFIX),
    "journal": lambda connection, ledger: invariants.check_journal(connection, ledger, PARTITION_COUNT),
    "strangers": lambda connection, ledger: invariants.check_strangers(connection, ledger, PREFIX),
    "proof": lambda connection, _: find_wrong(connection),
    "snapshot": lambda connection, _: invariants.check_snapshot(connection),
}


def requests() -> list[Request]:
    """One that has one event, and two that have some in every partition."""
    many = Counter({(f"{PREFIX}{n}", kind): n + 1 for n in range(12) for kind in ("view", "watched")})
    return [Request(new_id(), events) for events in (Counter({(f"{PREFIX}0", "view"): 1}), many, many)]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def counted(servers: Servers, template: str) -> AsyncIterator[tuple[str, Ledger]]:
    """A database in which three requests were counted, and the ledger of whoever sent them."""
    ledger = Ledger()
    async with fresh_database(servers.postgres_dsn, template) as dsn:
        async with open_shard(dsn) as shard:
            for request in requests():
                ledger.send(request)
                await shard.append([as_entry(entry) for entry in entries_of(request, PARTITION_COUNT)])
                ledger.acknowledge(request, request.event_count, 0, Durability.JOURNALED)
        yield dsn, ledger


@asynccontextmanager
async def after(dsn: str, violation: str) -> AsyncIterator[Any]:
    """The database as it would be after a statement that is undone at the end."""
    async with open_proof(dsn) as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(violation)
        try:
            yield connection
        finally:
            await transaction.rollback()


@pytest.mark.parametrize("name", CHECKS)
async def test_nothing_is_found_where_everything_is_right(name: str, counted: tuple[str, Ledger]) -> None:
    dsn, ledger = counted
    async with open_proof(dsn) as connection:
        assert await CHECKS[name](connection, ledger) == []
        assert await is_applied(connection)


@pytest.mark.parametrize(
    ("name", "violation"),
    [
        pytest.param("counts", add(-1), id="an event is lost"),
        pytest.param("counts", add(1), id="an event is counted twice"),
        pytest.param("counts", "delete from counting.rollup_block", id="videos are lost"),
        pytest.param(
            "values",
            add(1, 1, 0.125, kind="watched"),
            id="a wrong sum",
        ),
        pytest.param(
            "values",
            add(1, kind="watched"),
            id="values are lost",
        ),
        pytest.param("journal", "delete from counting.journal where seq = 3", id="an entry is lost"),
        pytest.param(
            "journal",
            "update counting.journal set payload = (select payload from counting.journal where seq = 1) where seq = 3",
            id="an entry has other events",
        ),
        pytest.param(
            "journal",
            "insert into counting.dead_letter "
            "(request_id, partition, received_at, request_hash, payload, events, reason) "
            "select request_id, partition, received_at, request_hash, payload, events, '' "
            "from counting.journal where seq = 1",
            id="an entry waits as a dead letter, too",
        ),
        pytest.param("strangers", SPOOLED_LETTER, id="a letter of nobody"),
        pytest.param("snapshot", add(1), id="more than the journal"),
        pytest.param(
            "snapshot",
            "update counting.checkpoint set applied_seq = 0; update counting.log set state = 'closed'",
            id="applied entries that are pending, too",
        ),
    ],
)
async def test_a_violation_is_found(name: str, violation: str, counted: tuple[str, Ledger]) -> None:
    dsn, ledger = counted
    async with after(dsn, violation) as connection:
        assert await CHECKS[name](connection, ledger)


@pytest.mark.parametrize(
    ("violation", "says"),
    [
        pytest.param(
            "update counting.checkpoint set applied_seq = applied_seq - 1",
            "is settled without",
            id="settled too early",
        ),
        pytest.param(
            "update counting.checkpoint set applied_seq = applied_seq - 1",
            "its flushes end at",
            id="a checkpoint of its own",
        ),
        pytest.param(
            "update counting.checkpoint set applied_events = 1, split_seq = applied_seq + 1",
            "within its entry",
            id="a part of an entry that is not there",
        ),
        pytest.param(
            "update counting.flush_log set to_events = 1 where to_seq = (select max(to_seq) from counting.flush_log)",
            "its flushes end at",
            id="a flush of a part beyond the checkpoint",
        ),
        pytest.param(
            "update counting.flush_log set events = events + 1", "the journal has", id="other events"
        ),
        pytest.param(
            "update counting.flush_log set from_seq = from_seq - 1", "and follows 0", id="an overlap"
        ),
        pytest.param("delete from counting.flush_log", "its flushes end at 0", id="a flush that left no row"),
        pytest.param(
            "delete from counting.flush_log", "and 0 were flushed to it", id="minutes without a flush"
        ),
        pytest.param(add(1), "generation 1 counts", id="other minutes"),
        pytest.param(add(1), "beyond the journal", id="a discrepancy"),
        pytest.param(
            "update counting.rollup_block set cells = cells + 1", "cells and", id="a block of other cells"
        ),
        pytest.param(
            "update counting.rollup_block set first = first + 1", "is not in order", id="a block elsewhere"
        ),
        pytest.param("delete from counting.rollup_run", "is of no run", id="blocks that no reader visits"),
        pytest.param(
            "update counting.rollup_run set into_run = 0", "goes into none", id="a merge without a target"
        ),
        pytest.param(
            f"{SPOOLED_LETTER} {REPLAY}",
            "generation 1 counts",
            id="a replay that was not counted",
        ),
    ],
)
async def test_what_disproves_the_database_is_named(
    violation: str, says: str, counted: tuple[str, Ledger]
) -> None:
    async with after(counted[0], violation) as connection:
        assert [each for each in await find_wrong(connection) if says in each]


async def test_a_replay_that_was_counted_proves_right(counted: tuple[str, Ledger]) -> None:
    replay = (
        f"{SPOOLED_LETTER} {REPLAY}"
        "insert into counting.rollup_row (generation, video_id, event_type, minute, count) "
        "select 1, 'of a letter', 'view', 0, sum(events) from counting.dead_letter"
    )
    async with after(counted[0], replay) as connection:
        assert await find_wrong(connection) == []


async def test_a_dead_letter_is_neither_lost_nor_overlooked(counted: tuple[str, Ledger]) -> None:
    dsn, ledger = counted
    set_aside = (
        "insert into counting.dead_letter "
        "(request_id, partition, log_id, seq, received_at, request_hash, payload, events, reason) "
        "select request_id, partition, log_id, seq, received_at, request_hash, payload, events, '' "
        f"from counting.journal where seq = 1; {add(-1)}"
    )
    async with after(dsn, set_aside) as connection:
        assert await CHECKS["counts"](connection, ledger) == []
        assert await CHECKS["journal"](connection, ledger) == []
        assert await invariants.dead_events(connection, PREFIX) == 1


async def test_what_is_unknown_may_be_counted_or_not_and_no_more_than_once(
    counted: tuple[str, Ledger],
) -> None:
    dsn, told = counted
    ledger = Ledger()
    [first, *others] = told.requests.values()
    for request in (Request(first.request_id, first.events), Request(new_id(), first.events)):
        ledger.send(request)
    for request in others:
        ledger.send(request)
        ledger.acknowledge(
            Request(request.request_id, request.events), 0, request.event_count, Durability.JOURNALED
        )
    async with open_proof(dsn) as connection:
        assert await CHECKS["counts"](connection, ledger) == []
        assert await CHECKS["journal"](connection, ledger) == []
    async with after(dsn, add(2)) as connection:
        assert await CHECKS["counts"](connection, ledger)


async def test_events_counted_again_under_an_id_of_nobody_do_not_pass_for_those_of_an_unknown_request(
    servers: Servers, template: str
) -> None:
    [*_, lost, counted_once] = requests()
    ledger = Ledger()
    for request in (lost, counted_once):
        ledger.send(request)
    stranger = Request(new_id(), counted_once.events)
    elsewhere = Request(new_id(), Counter({("of another round", "view"): 1, ("round", PREFIX): 1}))
    async with fresh_database(servers.postgres_dsn, template) as dsn:
        async with open_shard(dsn) as shard:
            for request in (counted_once, stranger, elsewhere):
                await shard.append([as_entry(entry) for entry in entries_of(request, PARTITION_COUNT)])
            ledger.acknowledge(counted_once, counted_once.event_count, 0, Durability.JOURNALED)
        async with open_proof(dsn) as connection:
            found = {name: await check(connection, ledger) for name, check in CHECKS.items()}
    assert {name for name, wrong in found.items() if wrong} == {"strangers"}
    assert all(stranger.request_id in sentence for sentence in found["strangers"][:-1])


async def test_the_audit_finds_an_event_that_the_journal_lacks(open_service: OpenService, dsn: str) -> None:
    async with open_service("all") as stack, open_proof(dsn) as connection:
        assert await invariants.check_audit(stack.client) == []
        await connection.execute(
            "insert into counting.rollup_row (generation, video_id, event_type, minute, count) "
            "values (1, 'v', 'view', 0, 1)"
        )
        assert await invariants.check_audit(stack.client)


def test_a_receipt_that_cannot_be_is_noted() -> None:
    [request, *_] = requests()
    for receipts in ([(0, 0)], [(1, 1)], [(1, 0), (1, 0)]):
        ledger = Ledger()
        ledger.send(sent := Request(request.request_id, request.events))
        for accepted, duplicate in receipts:
            ledger.acknowledge(sent, accepted, duplicate, Durability.JOURNALED)
        assert ledger.wrong, receipts


def test_a_spooled_request_may_be_answered_as_accepted_twice() -> None:
    [request, *_] = requests()
    ledger = Ledger()
    ledger.send(request)
    ledger.acknowledge(request, 1, 0, Durability.SPOOLED)
    ledger.acknowledge(request, 1, 0, Durability.JOURNALED)
    assert ledger.wrong == []
    assert ledger.journaled == {}


def test_a_killed_client_declares_what_lay_in_its_buffer_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    first, second = (Batch(new_id(), Columns.of([Event("video"), Event("video")])) for _ in range(2))
    life = LedgerFile(path)
    life.begin()
    for event in (("video", "view"), ("lost", "like"), ("video", "view"), ("lost", "like")):
        life.offer(event)
    life.send(first)
    life.close()
    with path.open("ab") as file:
        file.write(b'{"sent": "cut sho')
    again = LedgerFile(path)
    again.begin()
    again.acknowledge(Receipt(first.request_id, 0, 2, Durability.JOURNALED))
    for _ in range(2):
        again.offer(("video", "view"))
    again.send(second)
    again.close()
    kept = read_ledger(path)
    assert kept.lost == {("lost", "like"): 2}
    assert kept.ledger.wrong == []
    assert [request.request_id for request in kept.ledger.acknowledged] == [first.request_id]
    assert [batch.request_id for batch in kept.unanswered] == [second.request_id]
    assert [batch.payload for batch in kept.unanswered] == [second.payload]


def test_a_client_that_sends_an_event_once_more_under_another_id_is_found_out(tmp_path: Path) -> None:
    life = LedgerFile(tmp_path / "ledger")
    life.begin()
    life.offer(("video", "view"))
    for _ in range(2):
        life.send(Batch(new_id(), Columns.of([Event("video")])))
    life.close()
    assert read_ledger(tmp_path / "ledger").ledger.wrong
