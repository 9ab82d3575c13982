"""What must hold after every fault, asked of the database itself."""

from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from libs.domain.grains import COARSE, Grain, grain_of
from libs.domain.runs import hash_of
from libs.rpc.columns import decode
from tally.ingest.v1.ingest_pb2 import EventColumns
from tests.support.entries import Counts, counts_of
from tests.support.eventually import eventually
from tests.support.rollups import EVENTS, Key, cells_of_body, read_counts

_MOST = 5
"""sentences of one kind"""

_UNAPPLIED = """
select count(*) from counting.journal join counting.checkpoint using (log_id) where seq > applied_seq"""
_BLOCKS = """
select run.generation, run_id, first, number, cells, events, body
from counting.rollup_block as block full join counting.rollup_run as run using (generation, run_id)
order by run_id, first, number"""
_MERGES = """
select source.run_id from counting.rollup_run as source left join counting.rollup_run as target
    on target.run_id = source.into_run and not target.is_complete and target.generation = source.generation
where source.into_run is not null and target.run_id is null"""
_SETTLED_TOO_EARLY = """
select journal.log_id, seq
from counting.journal join counting.checkpoint using (log_id) join counting.log using (log_id)
where state = 'settled' and seq > applied_seq"""
# Each flush against the journal's events of its span, less those that became dead letters, whatever became of these;
# and each log's flushes in one unbroken chain. A span is between two positions: (seq, events of the next entry).
_FLUSHES = """
with span as (
    select flush_log.log_id, from_seq, from_events, to_seq, to_events, flush_log.events,
        lag(to_seq, 1, 0::bigint) over w as previous, lag(to_events, 1, 0) over w as previous_events
    from counting.flush_log window w as (partition by flush_log.log_id order by to_seq, to_events)
)
select span.*, coalesce(sum(journal.events - coalesce(dead_letter.events, 0)), 0)::bigint - from_events + to_events
    as journaled
from span left join counting.journal on journal.log_id = span.log_id and seq > from_seq and seq <= to_seq
    left join counting.dead_letter on dead_letter.log_id = journal.log_id and dead_letter.seq = journal.seq
group by span.log_id, from_seq, from_events, to_seq, to_events, span.events, previous, previous_events"""
_BEYOND_FLUSHES = """
select log_id, applied_seq, applied_events, coalesce(last.to_seq, 0) as flushed
from counting.checkpoint left join lateral (
    select to_seq, to_events from counting.flush_log where flush_log.log_id = checkpoint.log_id
    order by to_seq desc, to_events desc limit 1
) as last on true
where (applied_seq, applied_events) <> (coalesce(last.to_seq, 0), coalesce(last.to_events, 0))"""
_SPLIT = """
select log_id, split_seq from counting.checkpoint
where applied_events > 0 and not exists (
    select from counting.journal
    where journal.log_id = checkpoint.log_id and seq = split_seq and events > applied_events)"""
# Each generation against its flushes and the replays that went into it.
_GENERATIONS = """
select generation, coalesce(sum(counted), 0)::bigint as counted, coalesce(sum(flushed), 0)::bigint as flushed from (
    select generation, count as counted, null::bigint as flushed from counting.rollup_row
    union all select generation, events, null from counting.rollup_block where generation > 0
    union all select generation, null, events from counting.flush_log
    union all select generation, null, to_event - from_event from counting.replay_log
) as part
group by generation having coalesce(sum(counted), 0) <> coalesce(sum(flushed), 0)"""
_ROLLED = """
select generation, coalesce(rolled_at is not null, false) as is_rolled, rolled_to, sealed_at is not null as is_sealed,
    exists (
        select from counting.checkpoint join counting.log using (log_id)
        where checkpoint.generation = generation.generation and state <> 'settled') as has_logs
from counting.generation where generation > 0"""
_ALL_BODIES = "select generation, body from counting.rollup_block"
_HOURS = "select generation, hour from counting.generation_hour"
_JOURNALED = "select coalesce(sum(events), 0)::bigint from counting.journal"
# A letter of the journal that was replayed is on both sides; one that never was in it is on none until then.
_DISCREPANCY = f"""
select {EVENTS}
    - (select coalesce(sum(events), 0) from counting.journal join counting.checkpoint using (log_id)
        where seq <= applied_seq)
    - (select coalesce(sum(applied_events), 0) from counting.checkpoint)
    + (select coalesce(sum(events - replayed_events), 0) from counting.dead_letter where log_id is not null)
    - (select coalesce(sum(replayed_events), 0) from counting.dead_letter where log_id is null)"""


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

    No settled log has entries above its applied_seq, and no checkpoint lies within an entry that is not there.
    Discrepancy 0 by the flush log: its rows follow each other without a gap up to the checkpoint, each has the events
    of the journal in its span less dead letters, and each generation's minutes sum to its rows and its replays.
    Discrepancy 0 by journal and dead letters alone.
    """
    wrong = shorten(
        f"log {row['log_id']} is settled without its entry {row['seq']}"
        for row in await connection.fetch(_SETTLED_TOO_EARLY)
    )
    wrong += shorten(
        f"the flush ({row['from_seq']}, {row['to_seq']}] of log {row['log_id']} has {row['events']} events and "
        f"follows {row['previous']}; the journal has {row['journaled']} there"
        for row in await connection.fetch(_FLUSHES)
        if (row["from_seq"], row["from_events"]) != (row["previous"], row["previous_events"])
        or row["events"] != row["journaled"]
    )
    wrong += shorten(
        f"log {row['log_id']} is applied up to within its entry {row['split_seq']}, which has no such events"
        for row in await connection.fetch(_SPLIT)
    )
    wrong += shorten(
        f"log {row['log_id']} is applied up to {row['applied_seq']} and its flushes end at {row['flushed']}"
        for row in await connection.fetch(_BEYOND_FLUSHES)
    )
    wrong += shorten(
        f"generation {row['generation']} counts {row['counted']} events, and {row['flushed']} were flushed to it"
        for row in await connection.fetch(_GENERATIONS)
    )
    wrong += shorten(await _find_wrong_blocks(connection))
    wrong += shorten(await find_wrong_grains(connection))
    if surplus := await connection.fetchval(_DISCREPANCY):
        wrong.append(f"the rollups count {surplus:+} events beyond the journal, by its dead letters")
    return wrong


async def _find_wrong_blocks(connection: Any) -> list[str]:
    """Each block says what it says of itself, runs are in order, and each run is one that a reader visits."""
    wrong = [f"run {run_id} goes into none" for (run_id,) in await connection.fetch(_MERGES)]
    before: tuple[Any, ...] = ()
    for row in await connection.fetch(_BLOCKS):
        where = f"block ({row['first']}, {row['number']}) of run {row['run_id']}"
        if row["generation"] is None:
            wrong.append(f"{where} is of no run")
        if row["body"] is None:
            continue  # a run without blocks
        cells = cells_of_body(row["body"])
        events = sum(cell.count for _, cell in cells)
        if (row["cells"], row["events"]) != (len(cells), events):
            wrong.append(f"{where} has {len(cells)} cells and {events} events")
        hashes = [hash_of(key.video_id.encode()) for key, _ in cells]
        if hashes != sorted(hashes) or hashes[0] != row["first"]:
            wrong.append(f"{where} is not in order")
        # A hash is in several blocks only when each of them begins with it.
        if before[:1] == (row["run_id"],) and before[1] >= hashes[0] and before[1:] != (hashes[0], hashes[0]):
            wrong.append(f"{where} overlaps the one before")
        before = (row["run_id"], hashes[-1], hashes[0])
    return wrong


async def find_wrong_grains(connection: Any) -> list[str]:
    """Hours, days and totals are the minutes of the videos that are rolled up; no log writes a sealed generation."""
    isolation = None if connection.is_in_transaction() else "repeatable_read"
    async with connection.transaction(isolation=isolation):
        generations = {row["generation"]: row for row in await connection.fetch(_ROLLED)}
        hours = {(row["generation"], row["hour"]) for row in await connection.fetch(_HOURS)}
        bodies = await connection.fetch(_ALL_BODIES)
    wrong = [
        f"generation {number} is sealed and has logs"
        for number, row in generations.items()
        if row["is_sealed"] and row["has_logs"]
    ]
    expected: dict[Grain, Counter[Key]] = {grain: Counter() for grain in COARSE}
    held: dict[Grain, Counter[Key]] = {grain: Counter() for grain in COARSE}
    for generation, body in bodies:
        for key, cell in cells_of_body(body):
            if generation < 0:
                held[grain_of(generation)][key] += cell.count
                continue
            row = generations[generation]
            mark = row["rolled_to"]
            if not row["is_rolled"] and (mark is None or hash_of(key.video_id.encode()) >= mark):
                continue
            if (generation, key.minute // 60) not in hours:
                wrong.append(f"generation {generation} has {key}, and not its hour")
            for grain, length in ((Grain.HOUR, 60), (Grain.DAY, 1440)):
                expected[grain][key._replace(minute=key.minute // length * length)] += cell.count
            expected[Grain.TOTAL][key._replace(minute=0)] += cell.count
    return wrong + [
        f"{grain.name} has {held[grain][key]} of {key}, and {expected[grain][key]} are rolled up"
        for grain in COARSE
        for key in held[grain] | expected[grain]
        if held[grain][key] != expected[grain][key]
    ]


def shorten(wrong: Iterable[str]) -> list[str]:
    """The first sentences of one kind; the rest is counted."""
    everything = list(wrong)
    left = len(everything) - _MOST
    return everything[:_MOST] + ([f"and {left} more of this kind"] if left > 0 else [])


async def rolled_up(connection: Any) -> Counter[tuple[str, str]]:
    """What the rollups say."""
    return Counter(await read_counts(connection))


async def journaled(connection: Any) -> Counter[tuple[str, str]]:
    """What the payloads in the journal say."""
    total: Counter[tuple[str, str]] = Counter()
    for row in await connection.fetch("select payload, events from counting.journal"):
        events = decode(EventColumns.FromString(row["payload"]))
        assert len(events) == row["events"]
        total += counts_of(events)
    return total


async def states(connection: Any) -> Counter[str]:
    """How many logs are in which state."""
    return Counter(
        {
            row["state"]: row["n"]
            for row in await connection.fetch("select state, count(*) as n from counting.log group by state")
        }
    )
