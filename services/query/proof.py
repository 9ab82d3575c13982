"""For operators: how much of each log is in the rollups, and whether these equal the journal."""

from typing import Any

from libs.stores.postgres import reaching_postgres
from services.query.unsettled import JOURNAL_SINCE, Unsettled

# What came out of a spool waits for its flush since this log, however old it is; until then there was none.
_LOGS = f"""
select log_id, shard, state, opened_at, applied_seq, coalesce(last_seq, applied_seq) as last_seq, {JOURNAL_SINCE},
    case when last_seq is null then 0
        else extract(epoch from now() - greatest(first_received_at, opened_at)) end::float8 as lag_seconds
from counting.log join counting.checkpoint using (log_id) cross join lateral (
    select max(seq) as last_seq, min(received_at) as first_received_at
    from counting.journal where journal.log_id = log.log_id and seq > applied_seq and request_id >= opening_floor
        and request_id >= {{since}}
) as unapplied
where state <> 'settled'
order by opened_at"""

_AUDIT = """
select
    (select coalesce(sum(events), 0)::bigint from counting.journal join counting.checkpoint using (log_id)
            where seq <= applied_seq)
        + (select coalesce(sum(applied_events), 0)::bigint from counting.checkpoint) as journaled_events,
    ((select coalesce(sum(count), 0) from counting.rollup_row)
        + (select coalesce(sum(events), 0) from counting.rollup_block where generation > 0))::bigint as counted_events,
    (select coalesce(sum(abs(events - rolled_events)), 0)::bigint
        from (select sum(rolled_events) as rolled_events from counting.generation) as rolled,
            unnest(array[-1, -2, -3]) as grain cross join lateral (
                select coalesce(sum(events), 0) as events from counting.rollup_block where generation = grain
            ) as held) as grain_discrepancy_events,
    (select coalesce(sum(events - replayed_events), 0)::bigint from counting.dead_letter where log_id is not null)
        as dead_events,
    (select coalesce(sum(replayed_events), 0)::bigint from counting.dead_letter where log_id is null)
        as replayed_events"""

# The rows of before there were blocks are minutes.
_GRAINS = """
with block as (
    select least(generation, 0) as grain, sum(cells) as cells, sum(events) as events
    from counting.rollup_block group by 1
), run as (
    select least(generation, 0) as grain, count(*) as runs, count(distinct generation) as generations
    from counting.rollup_run group by 1
), size as (
    select case relname when 'rollup_block_hour' then -1 when 'rollup_block_day' then -2
            when 'rollup_block_total' then -3 else 0 end as grain, sum(pg_total_relation_size(pg_class.oid)) as bytes
    from pg_class join pg_inherits on pg_class.oid = inhrelid
    where inhparent in ('counting.rollup_block'::regclass, 'counting.rollup_row'::regclass) group by 1
), before as (
    select count(*) as cells, coalesce(sum(count), 0) as events from counting.rollup_row
), rolled as (
    select count(*) as generations from counting.generation where rolled_events > 0
)
select -grain as grain, coalesce(runs, 0) as runs, coalesce(bytes, 0)::bigint as bytes,
    (case grain when 0 then coalesce(run.generations, 0) else rolled.generations end) as generations,
    (coalesce(block.cells, 0) + case grain when 0 then before.cells else 0 end)::bigint as cells,
    (coalesce(block.events, 0) + case grain when 0 then before.events else 0 end)::bigint as events
from unnest(array[0, -1, -2, -3]) as grain left join block using (grain) left join run using (grain)
    left join size using (grain), before, rolled
order by 1"""
_UNROLLED = """
select count(*) as generations, coalesce(extract(epoch from now() - min(sealed_at)), 0)::float8 as seconds
from counting.generation where generation > 0 and sealed_at is not null and rolled_at is null"""


async def list_grains(connection: Any) -> tuple[list[Any], Any]:
    """What each grain holds, minutes first; and the sealed generations that are not rolled up, with their age.

    Raises Unavailable when Postgres is unreachable.
    """
    with reaching_postgres():
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return await connection.fetch(_GRAINS), await connection.fetchrow(_UNROLLED)


async def list_logs(connection: Any, unsettled: Unsettled) -> list[Any]:
    """The logs that are not settled, oldest first. Raises Unavailable when Postgres is unreachable."""
    with reaching_postgres():
        return await unsettled.fetch(connection, _LOGS)


async def audit(connection: Any) -> Any:
    """Journal against rollups, in one snapshot: journaled_events, counted_events, dead_events, replayed_events.

    And grain_discrepancy_events: hours, days and totals against the minutes that were rolled up into them.

    Journaled, less dead, plus replayed = counted. Of an entry that is applied in part, the applied events are
    journaled; of a letter that is replayed in part, the others are dead. A dead letter of the journal that was replayed
    is on both sides; one that was never in the journal is on none until it is replayed.

    Raises Unavailable when Postgres is unreachable.
    """
    with reaching_postgres():
        return await connection.fetchrow(_AUDIT)
