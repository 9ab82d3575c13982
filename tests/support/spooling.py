"""A spool that fills, and one that is drained."""

from collections import Counter
from typing import Any

from libs.domain.entry import Outcome
from services.counting.shard import Shard
from tests.support.entries import Counts
from tests.support.eventually import eventually
from tests.support.proof import assert_exact, open_proof
from tests.support.proxy import Proxy
from tests.support.shards import send

COUNTS = {(f"video {n}", "view"): n + 1 for n in range(8)}
ONE = {("after", "view"): 1}


async def count_until_spooled(shard: Shard, acknowledged: Counter[tuple[str, str]]) -> None:
    """Count until Postgres is known to be away: what it has under way when it is killed may still be committed."""

    async def is_spooled() -> bool:
        outcomes = await send(shard, ONE)
        acknowledged.update(ONE)
        return outcomes == {Outcome.SPOOLED}

    await eventually(is_spooled)


async def spool(shard: Shard, proxy: Proxy, counts: Counts) -> Counts:
    """Take the server away, and count into the spool."""
    proxy.shut()
    assert await send(shard, counts) == {Outcome.SPOOLED}
    return counts


async def read_letters(dsn: str) -> list[Any]:
    async with open_proof(dsn) as connection:
        letters: list[Any] = await connection.fetch("select * from counting.dead_letter")
        return letters


async def assert_drained(dsn: str, shard: Shard, acknowledged: Counts) -> None:
    """Drained, and exact."""

    async def is_drained() -> bool:
        return shard.spool is not None and not shard.spool.contents.entry_count

    await eventually(is_drained)
    await assert_exact(dsn, acknowledged)
