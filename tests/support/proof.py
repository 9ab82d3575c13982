"""What must hold after every fault, asked of the database itself."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from libs.rpc.columns import decode
from tally.ingest.v1.ingest_pb2 import EventColumns
from tests.support.entries import Counts, counts_of
from tests.support.eventually import eventually

_UNAPPLIED = """
select count(*) from journal join checkpoint using (log_id) where seq > applied_seq"""
_ROLLUPS = """
select video_id, event_type, sum(count)::bigint as count from rollup_minute group by video_id, event_type"""
_SETTLED_TOO_EARLY = """
select log_id, seq from journal join checkpoint using (log_id) join log using (log_id)
where state = 'settled' and seq > applied_seq"""
# Each flush against the journal's entries of its span, less those that became dead letters, whatever became of these;
# and each log's flushes in one unbroken chain.
_FLUSHES = """
select flush_log.log_id, from_seq, to_seq, flush_log.events,
    (select coalesce(sum(events), 0) from journal
        where journal.log_id = flush_log.log_id and seq > from_seq and seq <= to_seq)
    - (select coalesce(sum(events), 0) from dead_letter
        where dead_letter.log_id = flush_log.log_id and seq > from_seq and seq <= to_seq) as journaled,
    lag(to_seq, 1, 0::bigint) over (partition by flush_log.log_id order by to_seq) as previous
from flush_log"""
# Each generation against its flushes and the replays that went into it.
_GENERATIONS = """
select generation, coalesce(sum(counted), 0) as counted, coalesce(sum(flushed), 0) as flushed from (
    select generation, count as counted, null as flushed from rollup_minute
    union all select generation, null, events from flush_log
    union all select generation, null, events from dead_letter where state = 'replayed'
) as part
group by generation"""
# A letter of the journal that was replayed is on both sides; one that never was in it is on none until then.
_JOURNALED = "select coalesce(sum(events), 0)::bigint from journal"
_DISCREPANCY = """
select (select coalesce(sum(count), 0) from rollup_minute)
    - (select coalesce(sum(events), 0) from journal join checkpoint using (log_id) where seq <= applied_seq)
    + (select coalesce(sum(events), 0) from dead_letter where log_id is not null and state <> 'replayed')
    - (select coalesce(sum(events), 0) from dead_letter where log_id is null and state = 'replayed')"""


@asynccontextmanager
async def open_proof(dsn: str) -> AsyncIterator[Any]:
    """A connection of the test's own."""
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def assert_exact(dsn: str, acknowledged: Counts, within_seconds: float = 30.0) -> None:
    """Counted less distinct acknowledged is 0, for every video and event type, in journal and rollups.

    Waits until the spools are drained and every entry of every log is applied.
    """
    async with open_proof(dsn) as connection:

        async def is_applied() -> bool:
            return not await connection.fetchval(_UNAPPLIED)

        async def is_journaled() -> bool:
            return bool(await connection.fetchval(_JOURNALED) >= expected.total())

        expected = Counter({key: n for key, n in acknowledged.items() if n})
        await eventually(is_journaled, within_seconds)
        await eventually(is_applied, within_seconds)
        assert await rolled_up(connection) == expected
        await assert_proven(connection)
        assert await journaled(connection) == expected


async def assert_proven(connection: Any) -> None:
    """What the database can prove about itself, with dead letters or without, once all logs are applied."""
    assert await connection.fetch(_SETTLED_TOO_EARLY) == []
    await assert_chained(connection)
    for row in await connection.fetch(_GENERATIONS):
        assert row["counted"] == row["flushed"], dict(row)
    assert await connection.fetchval(_DISCREPANCY) == 0


async def rolled_up(connection: Any) -> Counter[tuple[str, str]]:
    """What the rollups say."""
    return Counter(
        {(row["video_id"], row["event_type"]): row["count"] for row in await connection.fetch(_ROLLUPS)}
    )


async def journaled(connection: Any) -> Counter[tuple[str, str]]:
    """What the payloads in the journal say."""
    total: Counter[tuple[str, str]] = Counter()
    for row in await connection.fetch("select payload, events from journal"):
        events = decode(EventColumns.FromString(row["payload"]))
        assert len(events) == row["events"]
        total += counts_of(events)
    return total


async def assert_chained(connection: Any) -> None:
    """The flushes of each log follow each other without a gap, and each has the events of its span."""
    for row in await connection.fetch(_FLUSHES):
        assert row["from_seq"] == row["previous"], dict(row)
        assert row["events"] == row["journaled"], dict(row)


async def states(connection: Any) -> Counter[str]:
    """How many logs are in which state."""
    return Counter(
        {
            row["state"]: row["n"]
            for row in await connection.fetch("select state, count(*) as n from log group by state")
        }
    )
