-- The journal and what is made of it. The cluster's one row comes from `libs/stores/schema.py`, the journal's
-- partitions from the counting service, which makes them ahead of time.

create table cluster (
    only_row        boolean primary key default true check (only_row),
    cluster_id      uuid not null default gen_random_uuid(),  -- apart from others that share its Valkey
    partition_count smallint not null check (partition_count between 1 and 4096),
    epoch           bigint not null default 1,      -- raised by a restore: cached values of before are void
    floor           uuid not null,                  -- no request id below it may enter the journal; never lowered
    created_at      timestamptz not null default now()
);

-- One life of a shard. The row is the fence: an insert holds it `for key share`, closing it takes `for update`.
create table log (
    log_id    bigint primary key,
    shard     text not null,
    pids      integer[] not null,                   -- the server processes that write for it
    opened_at timestamptz not null default now(),
    floor     uuid not null,                        -- raised with the cluster's: inserts leave out ids below it
    opening_floor uuid not null,                    -- as it was at first: no entry of the log is below it
    state     text not null default 'open' check (state in ('open', 'closed', 'settled'))
);
create index log_unsettled on log (log_id) where state <> 'settled';

-- How far each consumer of a log is. Apart from `log`, so that a flush blocks neither inserts nor heartbeats.
create table checkpoint (
    log_id      bigint not null references log,
    consumer    text not null,
    applied_seq bigint not null default 0,
    generation  integer not null,
    primary key (log_id, consumer)
) with (fillfactor = 50);

create table heartbeat (
    log_id bigint primary key references log,
    beat   bigint not null default 0
) with (fillfactor = 50);

create table journal (
    request_id   uuid not null,
    partition    smallint not null,
    log_id       bigint not null,
    seq          bigint not null,
    received_at  timestamptz not null,
    events       integer not null check (events > 0),
    request_hash bigint not null,
    payload      bytea not null,                    -- a serialized tally.ingest.v1.EventColumns
    primary key (request_id, partition)
) partition by range (request_id);
alter table journal alter column payload set storage external; -- compressing it costs more than it saves
create index journal_log_seq on journal (log_id, seq);

create table generation (
    generation integer primary key,
    sealed_at  timestamptz                          -- null: flushes still write it
);

create table rollup_minute (
    generation  integer not null,
    video_id    text collate "C" not null,
    event_type  text collate "C" not null,
    minute      integer not null,                   -- minutes since 1970-01-01 UTC
    count       bigint not null,
    value_count bigint not null default 0,          -- the events that carry a value; the rest speaks of them
    sum         double precision not null default 0,
    min         double precision,
    max         double precision,
    m2          double precision not null default 0, -- sum of squared deviations from the mean
    primary key (video_id, event_type, minute, generation)
) partition by list (generation);

-- One row for each flush: what the span (from_seq, to_seq] of a log added to the rollups.
create table flush_log (
    log_id     bigint not null references log,
    from_seq   bigint not null,
    to_seq     bigint not null,
    generation integer not null,
    events     bigint not null,
    cells      integer not null,                    -- minute rows written
    flushed_at timestamptz not null default now(),
    primary key (log_id, to_seq),
    check (from_seq < to_seq)
);

-- Entries that could not be applied: part of no rollup, and blocking no log.
create table dead_letter (
    request_id uuid not null,
    partition  smallint not null,
    log_id     bigint not null,
    seq        bigint not null,
    events     integer not null,
    reason     text not null,
    created_at timestamptz not null default now(),
    primary key (request_id, partition)
);

-- Postgres takes an underflow for an error, and a single tiny value would stop every flush of its key. What is
-- lost here is below the smallest number that a double holds in full.
create function mean_of(total double precision, n bigint) returns double precision immutable language sql
    return case when abs(total) < 1e-290 then 0 else total / n end;
create function square_of(distance double precision) returns double precision immutable language sql
    return case when abs(distance) < 1e-150 then 0 else distance * distance end;

insert into generation (generation) values (1);
create table rollup_minute_1 partition of rollup_minute for values in (1) with (fillfactor = 80);
