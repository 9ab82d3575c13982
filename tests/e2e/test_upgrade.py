"""A database that an early version made, with entries that it had not applied, is migrated and counted to the end."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tally.client import Client, Event
from tally.contract.errors import NotReady
from tests.support.database import PARTITION_COUNT
from tests.support.eventually import eventually
from tests.support.proof import find_wrong, is_applied, open_proof, rolled_up, states
from tests.support.servers import Servers, fresh_database
from tests.support.shards import quick
from tests.support.split import open_split
from tests.support.stack import open_stack
from tests.support.terminal import run

_DUMP = Path(__file__).parents[1] / "data" / "database-765542f.sql"
_IDENTITY = "select cluster_id, partition_count, epoch from public.cluster"
# The ids of its requests are of the day on which it was made. This leaves the day out of the test.
_FORGET_DAY = "update public.cluster set floor = '00000000-0000-0000-0000-000000000000'"
COUNTS = {
    **{(f"video {n}", "view"): n + 1 + (n < 4) for n in range(8)},
    ("video 0", "watched"): 4,
    ("video 1", "like"): 5,
    ("video 9", "like"): 4,
    ("odd replayed", "view"): 4,
}
WATCHED = 1.5 + 2.5 + 30.0 + 7.0
LETTERS = [("dropped", 3), ("replayed", 4), ("waiting", 2)]
OVERRIDES: Mapping[str, Any] = {"counting": quick()}
SPLIT = ("counting", "query", "partitioner")


@pytest.fixture
async def old_dsn(servers: Servers) -> AsyncIterator[str]:
    """A database of version 765542f."""
    async with fresh_database(servers.postgres_dsn) as dsn:
        async with open_proof(dsn) as connection:
            await connection.execute(_DUMP.read_text())
            await connection.execute(_FORGET_DAY)
        yield dsn


async def test_all_migrates_it_and_counts_on(old_dsn: str, valkey_url: str, tmp_path: Path) -> None:
    async with open_proof(old_dsn) as connection:
        identity = await connection.fetchrow(_IDENTITY)
        async with open_stack(old_dsn, valkey_url, tmp_path, overrides=OVERRIDES) as stack:
            await judge(connection, stack.client, stack.client)
        assert await connection.fetchrow(_IDENTITY) == identity


async def test_split_services_wait_for_the_command_and_count_on(
    old_dsn: str, valkey_url: str, tmp_path: Path
) -> None:
    async with open_proof(old_dsn) as connection:
        identity = await connection.fetchrow(_IDENTITY)
        for name in SPLIT:
            with pytest.raises(NotReady, match=r"lacks .*counting/0007_own_schema.* Run: tally migrate"):
                async with open_stack(old_dsn, valkey_url, tmp_path, [name]):
                    pass
        migrated = await run(
            "migrate", TALLY_POSTGRES__DSN=old_dsn, TALLY_PARTITION_COUNT=str(PARTITION_COUNT)
        )
        assert (migrated.exit_code, migrated.err) == (0, "")
        assert "counting/0007_own_schema" in migrated.out.splitlines()
        assert "counting/0003_room_for_updates" not in migrated.out.splitlines()
        async with open_split(lambda _: old_dsn, valkey_url, tmp_path, SPLIT, OVERRIDES) as stacks:
            await judge(connection, stacks["partitioner"].client, stacks["query"].client)
        assert await connection.fetchrow(_IDENTITY) == identity


async def judge(connection: Any, writer: Client, reader: Client) -> None:
    """Every count is what was counted before, and each event of now is added to it."""
    for (video, event_type), count in COUNTS.items():
        assert (await reader.get_count(video, event_type, strong=True)).count == count
    assert (await reader.get_stats("video 0", "watched", "sum", strong=True)).value == WATCHED
    await writer.process_many([Event("video 0"), Event("new")])
    expected = {**COUNTS, ("video 0", "view"): COUNTS[("video 0", "view")] + 1, ("new", "view"): 1}

    async def is_recovered() -> bool:
        return (await states(connection))["open"] == 1 and await is_applied(connection)

    await eventually(is_recovered)  # the log of the shard that serves now is left
    assert await rolled_up(connection) == expected
    assert await find_wrong(connection) == []
    assert (await reader.audit()).discrepancy_events == 0
    letters = await connection.fetch("select state, events from counting.dead_letter order by state")
    assert [tuple(row) for row in letters] == LETTERS
