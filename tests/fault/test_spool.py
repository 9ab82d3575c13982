"""Postgres is away: entries become durable on the shard's own disk, and are counted once when it is back."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.counting.entry import Outcome
from services.counting.shard import Shard
from tests.support.database import make_template
from tests.support.entries import Counts, new_id
from tests.support.eventually import eventually
from tests.support.proof import assert_exact
from tests.support.servers import Breakable, breakable_postgres
from tests.support.shards import open_shard, send

pytestmark = pytest.mark.exact

COUNTS = {(f"video {n}", "view"): n + 1 for n in range(8)}
ONE = {("after", "view"): 1}


@asynccontextmanager
async def migrated_postgres() -> AsyncIterator[Breakable]:
    async with breakable_postgres() as postgres:
        await make_template(postgres.url)
        yield postgres


async def count_until_spooled(shard: Shard, acknowledged: Counter[tuple[str, str]]) -> None:
    """Count until Postgres is known to be away: what it has under way when it is killed may still be committed."""

    async def is_spooled() -> bool:
        outcomes = await send(shard, ONE)
        acknowledged.update(ONE)
        return outcomes == {Outcome.SPOOLED}

    await eventually(is_spooled)


async def test_entries_are_spooled_while_postgres_is_down_and_counted_once_it_is_back(tmp_path: Path) -> None:
    acknowledged = Counter(COUNTS)
    async with migrated_postgres() as postgres, open_shard(postgres.url, spool_folder=tmp_path) as shard:
        assert await send(shard, COUNTS) == {Outcome.JOURNALED}
        postgres.kill()
        await count_until_spooled(shard, acknowledged)
        request_id = new_id()
        for _ in range(2):
            assert await send(shard, COUNTS, request_id) == {Outcome.SPOOLED}
        acknowledged.update(COUNTS)
        assert shard.is_ready
        await postgres.start()
        await assert_drained(postgres.url, shard, acknowledged)
        assert await send(shard, COUNTS, request_id) == {Outcome.DUPLICATE}


async def assert_drained(dsn: str, shard: Shard, acknowledged: Counts) -> None:
    """Drained, and exact."""

    async def is_drained() -> bool:
        return shard.spool is not None and not shard.spool.contents.entry_count

    await eventually(is_drained)
    await assert_exact(dsn, acknowledged)
