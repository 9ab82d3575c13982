"""kill -9 between any two statements of a write, and between any two commands of the projection."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
import redis.asyncio as valkey
from redis.exceptions import ConnectionError as ValkeyAway

from libs.stores.schema import read_identity
from services.catalog import keys
from services.catalog.deletion import Children, delete_resource
from services.catalog.feed import read_head
from services.catalog.list_kind import ListKind
from services.catalog.list_record import add_to_list, remove_from_list, replace_list
from services.catalog.projection import Projection, State
from services.catalog.reindexing import reindex_piece
from services.catalog.resource_record import Put, put_resources
from services.catalog.resource_type import ResourceType
from services.catalog.rule import Rule
from services.catalog.rule_record import put_rules
from services.catalog.settings import ProjectionSettings
from services.catalog.type_record import put_dimension, put_type
from services.catalog.verification import Verification
from services.catalog.writing import Writing
from tally.contract.errors import TallyError
from tests.integration.services.catalog.views import check_agreement, open_follower
from tests.support.cuts import Cut, cutting_connection

CONTAINER = ResourceType("c", "container")
VIDEO = ResourceType("v", "video", parent="/in", children="videos", indexes={"t": "/t"}, sorts=("/views",))
USER = ResourceType("u", "user", lists=(ListKind("picks", moves=True, limit=3, drops_oldest=True),))
CHANGED = ResourceType(
    "v", "video", parent="/in", children="videos", indexes={"t": "/t", "g": "/g"}, sorts=("/views", "/stars")
)


@dataclass(slots=True)
class Record:
    """A record, a way to write that can be cut, and one to look that cannot."""

    writing: Writing
    pool: Any
    """of the writer"""
    looking: Any
    cut: Cut

    async def write(self) -> None:
        """Everything that the record must survive, once."""
        for step in self.steps():
            await step()

    def steps(self) -> list[Callable[[], Awaitable[Any]]]:
        """The writes, each of which may be repeated."""

        async def reindex() -> None:
            await put_type(self.writing, CHANGED)
            while await reindex_piece(self.writing, self.pool, 2):
                pass

        return [
            lambda: put_type(self.writing, CONTAINER),
            lambda: put_type(self.writing, VIDEO),
            lambda: put_type(self.writing, USER),
            lambda: put_dimension(self.writing, "application", ["48"]),
            lambda: put_resources(self.writing, [Put(each, b"{}") for each in ("1c", "2c", "1u")]),
            lambda: add_to_list(self.writing, "1u:picks", ["1v", "2v", "99v", "5v"], 9),
            lambda: put_resources(self.writing, [put(number, "1c") for number in range(1, 6)]),
            lambda: put_rules(self.writing, "t:a", [Rule(1, False, applications=frozenset({"48"}))]),
            lambda: put_resources(self.writing, [put(2, "2c", t="b", views=9)]),
            reindex,
            lambda: put_rules(self.writing, "t:a", [Rule(1, True), Rule(2, False)]),
            lambda: delete_resource(self.writing, "2c", None, Children.DETACH, 1),
            lambda: delete_resource(self.writing, "5v", None),
            lambda: replace_list(self.writing, "list:featured", ["2v", "3v", "98v"], 9),
            lambda: remove_from_list(self.writing, "list:featured", ["98v"]),
            lambda: delete_resource(self.writing, "1u", None),
            lambda: delete_resource(self.writing, "1c", None, Children.DELETE, 2),
        ]


def put(number: int, container: str, **fields: Any) -> Put:
    """A video."""
    details = {"in": container, "t": "a", "views": number, "g": "x", "stars": -number, **fields}
    return Put(f"{number}v", json.dumps(details).encode(), f"name-{number}")


@pytest.fixture
async def record(dsn: str) -> AsyncIterator[Record]:
    cut = Cut()
    async with (
        asyncpg.create_pool(dsn, min_size=1, max_size=2, connection_class=cutting_connection(cut)) as pool,
        asyncpg.create_pool(dsn, min_size=1, max_size=3) as looking,
    ):
        writing = Writing(pool, 3600.0)  # notifications are no part of a write
        yield Record(writing, pool, looking, cut)
        cut.disarm()
        if writing._notifying is not None:
            writing._notifying.cancel()


@pytest.mark.parametrize(
    "is_after", [False, pytest.param(True, marks=pytest.mark.long)], ids=["not sent", "not answered"]
)
async def test_a_write_that_is_killed_at_any_statement_is_whole_or_not_there_and_may_be_sent_again(
    record: Record, is_after: bool
) -> None:
    """And what a replica has from the feed is what the record has, after each of them."""
    follower = open_follower(record.looking)
    for step in record.steps():
        number = 0
        while True:
            record.cut.arm(number, is_after=is_after)
            try:
                await step()
            except (TallyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                assert record.cut.was_reached
            await check_agreement(record.looking, follower)
            if not record.cut.was_reached:
                break
            number += 1
        record.cut.disarm()
    left = await record.looking.fetch("select id, parent, keys, scores from catalog.resource")
    assert [tuple(row) for row in left] == [("2v", None, ["g:x", "t:b"], [9.0, -2.0])]
    lists = await record.looking.fetch(
        "select list, id from catalog.list join catalog.list_entry using (number)"
    )
    assert [tuple(row) for row in lists] == [("list:featured", "2v")]
    await follower.leave()


class Killed:
    """A connection to Valkey whose process is killed at a command, or whose Valkey is wiped before it."""

    def __init__(self, client: "valkey.Redis", number: int, *, is_wiped: bool) -> None:
        self._client: Any = client
        self._number = number
        self._is_wiped = is_wiped
        self.was_reached = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        async def run(*arguments: Any, **options: Any) -> Any:
            self._number -= 1
            if self._number == -1:
                self.was_reached = True
                if not self._is_wiped:
                    raise ValkeyAway("the process was killed here")
                await self._client.flushall()
            return await method(*arguments, **options)

        return run


@pytest.mark.parametrize(
    "is_wiped", [False, pytest.param(True, marks=pytest.mark.long)], ids=["killed", "wiped"]
)
async def test_a_projection_that_is_killed_or_wiped_at_any_command_is_right_where_it_has_its_token(
    record: Record, valkey_url: str, is_wiped: bool
) -> None:
    """T004-17, T004-44: from nothing, and while it follows."""
    cluster = await read_identity(record.looking)
    settings = ProjectionSettings(batch_resources=2)
    async with valkey.Redis.from_url(valkey_url) as client:
        verification = Verification(client, record.looking, cluster, settings)

        async def project_until(number: int) -> bool:
            """Whether the command with this number was reached before all was projected."""
            killed: Any = Killed(client, number, is_wiped=is_wiped)
            projection = Projection(killed, record.looking, cluster, settings)
            while True:
                try:
                    pause = await projection.turn()
                except ValkeyAway:
                    break
                if pause is None and projection.state is State.COMPLETE:
                    break
            position = await client.get(keys.POSITION)
            head = await read_head(record.looking)
            if await client.get(keys.TOKEN) is not None and int(position or 0) == head.change:
                await check_equal(verification)
            return bool(killed.was_reached)

        steps = record.steps()
        for part in (steps[:8], steps[8:10], steps[10:]):
            for step in part:
                await step()
            await client.flushall()
            number = 0
            while await project_until(number):
                number += 1
            for step in part[-2:]:
                await step()
        await check_equal(verification)
        left = set(await client.keys()) - {b"catalog:token", b"catalog:position"}
        assert await client.zrange("r:list:featured", 0, -1) == [b"2v"]
        assert left == {
            b"r:list:featured",
            b"r:2v",
            b"r:i:2v",
            b"r:x:t:b",
            b"r:x:g:x",
            b"s:views",
            b"s:stars",
        }


async def check_equal(verification: Verification) -> None:
    """The projection is what the record has at its position; a later change does not matter."""
    cursor = ""
    while True:
        found = await asyncio.wait_for(verification.verify(cursor), 10)
        assert found.problems == []
        cursor = found.next_cursor
        if not cursor:
            return
