"""Whatever the order of writes, cuts, pruning and backups that are put back: once idle, both ends are equal.

A hypothesis state machine over two real databases, with the real sender and receiver. `tests/model/replication` has the
same rules in a smaller world, and all of its interleavings.
"""

import asyncio
import tempfile
import uuid
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, ClassVar

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from services.replication.rows import EntryRow
from services.replication.settings import (
    ReceiverSettings,
    ReplicationSettings,
    SenderSettings,
    SnapshotSettings,
    StrategySettings,
)
from tests.support.lanes import LaneUnderTest
from tests.support.regions import region_database
from tests.support.servers import Servers, fresh_database, name_of

SETTINGS = ReplicationSettings(
    sender=SenderSettings(poll_seconds=0.02, gather_seconds=0.0, idle_pass_seconds=600, batch_size=3),
    receiver=ReceiverSettings(retry_seconds=0.01, lease_seconds=5.0, window_frames=2),
    strategy=StrategySettings(batch_from_rows=3, notify_from_rows=6),
    snapshot=SnapshotSettings(chunk_bytes=4096),
)
LOCATIONS = tuple(uuid.UUID(int=(1 + n) << 100) for n in range(2))
KEYS = {location: tuple(uuid.UUID(int=location.int + 1000 + n) for n in range(10)) for location in LOCATIONS}
PUT = """
insert into replication.entry (uuid, location, kind, name, version, changed) values ($1, $2, 'file', $3, 0, '0'::xid8)
on conflict (uuid) do update set name = excluded.name"""
DELETE = "delete from replication.entry where uuid = $1"

locations = st.sampled_from(LOCATIONS)
numbers = st.lists(st.integers(0, 9), min_size=1, max_size=8, unique=True)


class AnyOrder(RuleBasedStateMachine):
    """An owner that writes, and a receiver that is cut off."""

    servers: ClassVar[Servers]
    template: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.open: list[tuple[Any, Any, uuid.UUID]] = []
        self.count = 0
        self.backup: tuple[str, str] | None = None
        self.reached: str | None = None

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    @initialize()
    def begin(self) -> None:
        self.run(self._begin())

    async def _begin(self) -> None:
        folder = self.stack.enter_context(tempfile.TemporaryDirectory(prefix="tally-tests-"))
        self.folder = Path(folder)
        self.dsns = [
            await self.stack.enter_async_context(region_database(self.servers.postgres_dsn, self.template))
            for _ in range(2)
        ]
        await self._connect()

    async def _connect(self) -> None:
        self.lane = await LaneUnderTest(self.dsns[0], self.dsns[1], self.folder, SETTINGS).__aenter__()

    def _entries(self, location: uuid.UUID, chosen: Sequence[int]) -> list[EntryRow]:
        self.count += 1
        return [
            EntryRow(KEYS[location][n], location, None, "file", f"{self.count}", 0, 0, b"", "", 0)
            for n in chosen
        ]

    @rule(location=locations, chosen=numbers)
    @precondition(lambda self: not self.open)
    def puts(self, location: uuid.UUID, chosen: list[int]) -> None:
        self.run(self._put(location, chosen))

    async def _put(self, location: uuid.UUID, chosen: list[int]) -> None:
        await self.lane.transactions.put_location(location, "folder", "made")
        await self.lane.transactions.put_entries(location, self._entries(location, chosen))

    @rule(location=locations, chosen=numbers, complete=st.booleans())
    @precondition(lambda self: not self.open)
    def commits_in_bulk(self, location: uuid.UUID, chosen: list[int], complete: bool) -> None:
        self.run(self._bulk(location, chosen, complete))

    async def _bulk(self, location: uuid.UUID, chosen: list[int], complete: bool) -> None:
        async def pages() -> AsyncIterator[list[EntryRow]]:
            yield self._entries(location, chosen)

        await self.lane.transactions.put_location(location, "folder", "made")
        await self.lane.transactions.commit_bulk_entries(location, pages(), complete=complete)

    @rule(location=locations, chosen=numbers)
    @precondition(lambda self: not self.open)
    def deletes(self, location: uuid.UUID, chosen: list[int]) -> None:
        keys = [KEYS[location][n] for n in chosen]
        statement = "delete from replication.entry where uuid = any($1::uuid[])"
        self.run(self.lane.owner.execute(statement, keys))

    @rule(location=locations)
    @precondition(lambda self: not self.open)
    def deletes_a_location(self, location: uuid.UUID) -> None:
        self.run(self.lane.owner.execute("delete from replication.location where uuid = $1", location))

    @rule(number=st.integers(0, 9))
    @precondition(lambda self: len(self.open) < 2)
    def leaves_a_transaction_open(self, number: int) -> None:
        self.run(self._leave_open(number))

    async def _leave_open(self, number: int) -> None:
        """Puts in a location of its own, so that the two may be open together and end in any order."""
        taken = {each for _, _, each in self.open}
        location = next(each for each in LOCATIONS if each not in taken)
        connection = await asyncpg.connect(self.dsns[0])
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("set local lock_timeout = '200ms'")
        exists = await connection.fetchval(
            "select exists (select from replication.location where uuid = $1)", location
        )
        if not exists:
            await connection.close()
            return
        self.count += 1
        await connection.execute(PUT, KEYS[location][number], location, f"{self.count}")
        self.open.append((connection, transaction, location))

    @rule(first=st.booleans(), keep=st.booleans())
    @precondition(lambda self: bool(self.open))
    def ends_a_transaction(self, first: bool, keep: bool) -> None:
        self.run(self._end(0 if first else -1, keep))

    async def _end(self, place: int, keep: bool) -> None:
        connection, transaction, _ = self.open.pop(place)
        await (transaction.commit() if keep else transaction.rollback())
        await connection.close()

    @rule(frames=st.integers(0, 9))
    def streams_until_it_is_cut(self, frames: int) -> None:
        self.run(self._stream(frames))

    async def _stream(self, frames: int) -> None:
        await self.lane.stream(frames)
        await self._see_that_the_watermark_rises()

    async def _see_that_the_watermark_rises(self) -> None:
        """Never back, unless one of the regions was put back."""
        now = await self.lane.receiver.fetchval("select snapshot::text from replication.watermark")
        if now is not None and self.reached is not None:
            query = "select replication.covers($1::text::pg_snapshot, $2::text::pg_snapshot)"
            assert await self.lane.receiver.fetchval(query, now, self.reached), (self.reached, now)
        self.reached = now or self.reached

    @rule()
    def prunes(self) -> None:
        self.run(self.lane.prune())

    @rule(wanted=st.booleans())
    def changes_the_policy(self, wanted: bool) -> None:
        policy = "follow" if wanted else "lazy"
        self.run(
            self.lane.receiver.execute("update replication.region set policy = $1 where not is_own", policy)
        )

    @rule(which=st.integers(0, 1))
    @precondition(lambda self: not self.open and self.backup is None)
    def backs_up(self, which: int) -> None:
        self.run(self._back_up(which))

    async def _back_up(self, which: int) -> None:
        await self.lane.__aexit__(None, None, None)
        copy = await self.stack.enter_async_context(
            fresh_database(self.servers.postgres_dsn, name_of(self.dsns[which]))
        )
        self.backup = (copy, str(which))
        await self._connect()

    @rule()
    @precondition(lambda self: not self.open and self.backup is not None)
    def puts_the_backup_back(self) -> None:
        self.run(self._put_back())

    async def _put_back(self) -> None:
        assert self.backup is not None
        await self.lane.__aexit__(None, None, None)
        copy, which = self.backup
        self.dsns[int(which)] = copy
        self.backup = self.reached = None
        await self._connect()

    def teardown(self) -> None:
        try:
            if hasattr(self, "lane"):
                self.run(self._finish())
        finally:
            self.run(self.stack.aclose())
            self.runner.close()

    async def _finish(self) -> None:
        while self.open:
            await self._end(0, True)
        statement = "update replication.region set policy = 'follow' where not is_own"
        await self.lane.receiver.execute(statement)
        await self.lane.receiver.execute(
            "update replication.peer_state set is_wanted = true where state <> 'current'"
        )
        try:
            await self.lane.settle()
            await self._see_that_the_watermark_rises()
        finally:
            await self.lane.__aexit__(None, None, None)


def explore(servers: Servers, template: str, examples: int, steps: int) -> None:
    machine = type("Machine", (AnyOrder,), {"servers": servers, "template": template})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            phases=[
                Phase.explicit,
                Phase.reuse,
                Phase.generate,
            ],  # shrinking would make databases for minutes
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(300)
async def test_whatever_the_order_both_ends_are_equal_in_the_end(servers: Servers, template: str) -> None:
    await asyncio.to_thread(explore, servers, template, 3, 10)


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_whatever_the_order_both_ends_are_equal_in_the_end_long(
    servers: Servers, template: str
) -> None:
    await asyncio.to_thread(explore, servers, template, 60, 40)
