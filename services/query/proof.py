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
