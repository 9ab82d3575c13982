-- Counting's tables move into a Postgres schema of their own, as those of the other services. Tables in which an earlier
-- version was interrupted are moved too. `cluster` and `schema_migration` stay in `public`: they are of no one service, and
-- versions from before look for both there; a version that found neither would make a second set of tables, and count
-- from 0 in them.

-- It is there before where each service has a role of its own.
create schema if not exists counting;

-- A shard of an earlier version may be running. A flush takes its locks in this order, the last by a foreign key, and so
-- do a beat (heartbeat, log) and an insert (log, journal): this waits for them, and they for it, but never in a circle.
lock table checkpoint, generation, rollup_minute, flush_log, heartbeat, log, journal in access exclusive mode;

alter table log set schema counting;
alter table checkpoint set schema counting;
alter table heartbeat set schema counting;
alter table journal set schema counting;
alter table generation set schema counting;
alter table rollup_minute set schema counting;
alter table flush_log set schema counting;
alter table dead_letter set schema counting;
alter table replay_log set schema counting;
alter table dropped_partition set schema counting;

-- A partition stays where it was when its parent moves. A table of a day that is no partition was detached by a shard that
-- was interrupted before it dropped the table.
do $$
declare
    partition regclass;
begin
    for partition in
        select inhrelid::regclass from pg_inherits
        where inhparent in ('counting.journal'::regclass, 'counting.rollup_minute'::regclass)
        union all
        select oid::regclass from pg_class
        where relnamespace = (select relnamespace from pg_class where oid = 'cluster'::regclass)
            and relkind = 'r' and not relispartition and relname ~ '^journal_[0-9]{4}_[0-9]{2}_[0-9]{2}$'
    loop
        execute format('alter table %s set schema counting', partition);
    end loop;
end $$;

alter function mean_of(double precision, bigint) set schema counting;
alter function square_of(double precision) set schema counting;

-- It is elsewhere where `search_path` led an earlier version.
alter table cluster set schema public;
