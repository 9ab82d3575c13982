"""What must hold after every fault, asked of the database itself."""

from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from libs.rpc.columns import decode
from tally.ingest.v1.ingest_pb2 import EventColumns
from tests.support.entries import Counts, counts_of
from tests.support.eventually import eventually

_MOST = 5
"""sentences of one kind"""

_UNAPPLIED = """
select count(*) from journal join checkpoint using (log_id) where seq > applied_seq"""
_ROLLUPS = """
select video_id, event_type, sum(count)::bigint as count from rollup_minute group by video_id, event_type"""
_SETTLED_TOO_EARLY = """
select journal.log_id, seq from journal join checkpoint using (log_id) join log using (log_id)
where state = 'settled' and seq > applied_seq"""
# Each flush against the journal's entries of its span, less those that became dead letters, whatever became of these;
# and each log's flushes in one unbroken chain.
_FLUSHES = """
with span as (
    select flush_log.log_id, from_seq, to_seq, flush_log.events,
        lag(to_seq, 1, 0::bigint) over (partition by flush_log.log_id order by to_seq) as previous
    from flush_log
)
select span.*, coalesce(sum(journal.events) filter (where dead_letter.request_id is null), 0)::bigint as journaled
from span left join journal on journal.log_id = span.log_id and seq > from_seq and seq <= to_seq
    left join dead_letter on dead_letter.log_id = journal.log_id and dead_letter.seq = journal.seq
group by span.log_id, from_seq, to_seq, span.events, previous"""
_BEYOND_FLUSHES = """
select log_id, applied_seq, coalesce(max(to_seq), 0) as flushed from checkpoint left join flush_log using (log_id)
group by log_id, applied_seq having applied_seq <> coalesce(max(to_seq), 0)"""
# Each generation against its flushes and the replays that went into it.
_GENERATIONS = """
select generation, coalesce(sum(counted), 0)::bigint as counted, coalesce(sum(flushed), 0)::bigint as flushed from (
    select generation, count as counted, null as flushed from rollup_minute
    union all select generation, null, events from flush_log
    union all select generation, null, events from dead_letter where state = 'replayed'
) as part
group by generation having coalesce(sum(counted), 0) <> coalesce(sum(flushed), 0)"""
_JOURNALED = "select coalesce(sum(events), 0)::bigint from journal"
# A letter of the journal that was replayed is on both sides; one that never was in it is on none until then.
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

        async def is_journaled() -> bool:
            return bool(await connection.fetchval(_JOURNALED) >= expected.total())

        expected = Counter({key: n for key, n in acknowledged.items() if n})
        await eventually(is_journaled, within_seconds)
        await eventually(lambda: is_applied(connection), within_seconds)
        assert await rolled_up(connection) == expected
        await assert_proven(connection)
        assert await journaled(connection) == expected


async def is_applied(connection: Any) -> bool:
    """Whether the rollups have every entry of the journal."""
    return not await connection.fetchval(_UNAPPLIED)


async def assert_proven(connection: Any) -> None:
    """What the database can prove about itself, with dead letters or without, once all logs are applied."""
    assert await find_wrong(connection) == []


async def find_wrong(connection: Any) -> list[str]:
    """A sentence for each thing by which the database disproves itself, once all logs are applied.

    No settled log has entries above its applied_seq. Discrepancy 0 by the flush log: its rows follow each other without
    a gap up to applied_seq, each has the events of the journal in its span less dead letters, and each generation's
    minutes sum to its rows and its replays. Discrepancy 0 by journal and dead letters alone.
    """
    wrong = shorten(
        f"log {row['log_id']} is settled without its entry {row['seq']}"
        for row in await connection.fetch(_SETTLED_TOO_EARLY)
    )
    wrong += shorten(
        f"the flush ({row['from_seq']}, {row['to_seq']}] of log {row['log_id']} has {row['events']} events and "
        f"follows {row['previous']}; the journal has {row['journaled']} there"
        for row in await connection.fetch(_FLUSHES)
        if row["from_seq"] != row["previous"] or row["events"] != row["journaled"]
    )
    wrong += shorten(
        f"log {row['log_id']} is applied up to {row['applied_seq']} and its flushes end at {row['flushed']}"
        for row in await connection.fetch(_BEYOND_FLUSHES)
    )
    wrong += shorten(
        f"generation {row['generation']} counts {row['counted']} events, and {row['flushed']} were flushed to it"
        for row in await connection.fetch(_GENERATIONS)
    )
    if surplus := await connection.fetchval(_DISCREPANCY):
        wrong.append(f"the rollups count {surplus:+} events beyond the journal, by its dead letters")
    return wrong


def shorten(wrong: Iterable[str]) -> list[str]:
    """The first sentences of one kind; the rest is counted."""
    everything = list(wrong)
    left = len(everything) - _MOST
    return everything[:_MOST] + ([f"and {left} more of this kind"] if left > 0 else [])


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


async def states(connection: Any) -> Counter[str]:
    """How many logs are in which state."""
    return Counter(
        {
            row["state"]: row["n"]
            for row in await connection.fetch("select state, count(*) as n from log group by state")
        }
    )
