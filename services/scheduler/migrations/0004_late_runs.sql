-- Late work is dispatched at a bounded rate, and a run that takes too long ends as partial.

-- Written by each lease of a slot that the cadence gave: no slot that is overdue is leased before.
create table scheduler.sync_pace (
    job_id      integer primary key references scheduler.sync_job,
    paced_until timestamptz not null
) with (fillfactor = 50);

alter table scheduler.sync_run
    add column unreached bigint not null default 0;     -- members in slots that were not done when the run ended
-- Runs that have ended before all of their slots; a lease in force keeps its batch.
create index sync_run_ending on scheduler.sync_run (job_id)
    where state in ('partial', 'cancelled') and ended_at is null;
