-- An entry with too many events for one transaction is applied in several. Between them a checkpoint lies within the
-- entry: all events of the entries up to applied_seq are in the rollups, and the first applied_events of the next one.
-- split_seq names that entry. A shard of an earlier version, which knows nothing of parts, leaves it as it is, so that
-- the constraint keeps it from moving such a checkpoint (it would add the entry as a whole).

alter table checkpoint
    add column applied_events integer not null default 0 check (applied_events >= 0),
    add column split_seq bigint check (split_seq = applied_seq + 1),
    add check ((applied_events > 0) = (split_seq is not null));

-- Each row is what the events between two such positions added.
alter table flush_log
    add column from_events integer not null default 0,
    add column to_events integer not null default 0,
    drop constraint flush_log_pkey,
    add primary key (log_id, to_seq, to_events),
    drop constraint flush_log_check,
    add check ((from_seq, from_events) < (to_seq, to_events));

-- A letter is replayed in several transactions too: its first replayed_events events are in the rollups.
alter table dead_letter add column replayed_events integer not null default 0;
update dead_letter set replayed_events = events where state = 'replayed';
alter table dead_letter
    add check (replayed_events between 0 and events),
    add check ((state = 'replayed') = (replayed_events = events)),
    add check (state <> 'dropped' or replayed_events = 0);

-- One row for each of these transactions.
create table replay_log (
    request_id  uuid not null,
    partition   smallint not null,
    from_event  integer not null,
    to_event    integer not null,
    generation  integer not null,
    replayed_at timestamptz not null default now(),
    primary key (request_id, partition, from_event),
    check (from_event < to_event)
);
insert into replay_log (request_id, partition, from_event, to_event, generation, replayed_at)
    select request_id, partition, 0, events, generation, decided_at from dead_letter where state = 'replayed';
