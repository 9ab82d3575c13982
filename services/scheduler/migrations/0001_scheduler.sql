-- Populations, jobs, runs, slots, outcomes and quotas of the scheduler. No statement here or in the service reads the
-- server's clock: times come from the service, which reads Postgres's clock once for all of them.

create schema scheduler;

-- The bin space is fixed before the first member is put; a scheduler that is configured otherwise refuses to start.
create function scheduler.bin_space() returns integer immutable language sql return 50400;
-- The one generator of bins, however a row arrives.
create function scheduler.new_sync_bin() returns integer volatile language sql
    return floor(random() * scheduler.bin_space())::integer;

create table scheduler.youtube_video (
    youtube_id            text collate "C" primary key,
    sync_bin              integer not null default scheduler.new_sync_bin() check (sync_bin >= 0),
    member_since          timestamptz not null,     -- since when bin, filters and `gone` are as they are
    video_synced_at       timestamptz,              -- the last success of any job
    is_oon                boolean not null default false,
    has_label_association boolean not null default false,
    gone                  boolean not null default false, -- it does not exist any more: left out of runs
    channel_id            text collate "C",
    title                 text,
    published_at          timestamptz,
    duration_seconds      bigint,
    view_count            bigint,
    like_count            bigint,
    comment_count         bigint,
    etag                  text
) with (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.02,
        autovacuum_analyze_scale_factor = 0.02);
-- Of members that are there alone: a slot is read from the index without a look at its rows.
create index ix_youtube_video_sync_bin on scheduler.youtube_video (sync_bin, youtube_id) where not gone;
create index ix_youtube_video_sync_bin_oon on scheduler.youtube_video (sync_bin, youtube_id) where is_oon and not gone;

create table scheduler.youtube_channel (
    youtube_id            text collate "C" primary key,
    sync_bin              integer not null default scheduler.new_sync_bin() check (sync_bin >= 0),
    member_since          timestamptz not null,
    video_synced_at       timestamptz,
    is_oon                boolean not null default false,
    has_label_association boolean not null default false,
    gone                  boolean not null default false,
    title                 text,
    etag                  text
) with (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.02,
        autovacuum_analyze_scale_factor = 0.02);
create index ix_youtube_channel_sync_bin on scheduler.youtube_channel (sync_bin, youtube_id) where not gone;
create index ix_youtube_channel_sync_bin_oon on scheduler.youtube_channel (sync_bin, youtube_id) where is_oon and not gone;

create table scheduler.sync_job (
    job_id          integer generated always as identity primary key,
    name            text collate "C" not null unique,
    population      text not null,
    definition      jsonb not null,
    quotas          jsonb not null,                 -- units of each quota that a batch costs, as in the definition
    state           text not null default 'active' check (state in ('active', 'paused')),
    reason          text not null default '',
    warnings        text[] not null default '{}',
    next_logical_at timestamptz not null,           -- the next period to plan
    next_plan_at    timestamptz not null,           -- when its window opens
    rest_until      timestamptz,                    -- calls fail as a whole: nothing is leased before
    rest_failures   integer not null default 0,     -- such calls since the last one that did not fail
    created_at      timestamptz not null,
    changed_at      timestamptz not null
) with (fillfactor = 50);

create table scheduler.sync_run (
    run_id        bigint generated always as identity primary key,
    job_id        integer not null references scheduler.sync_job,
    logical_at    timestamptz not null,
    repeat        integer not null,                 -- 0: planned by the cadence
    request_id    uuid unique,                      -- of whoever asked for a repeat
    state         text not null
        check (state in ('planned', 'running', 'done', 'partial', 'cancelled', 'skipped', 'shadow')),
    reason        text not null default '',
    definition    jsonb not null,                   -- as it was when the run was planned; a run keeps it
    handler       text not null,
    bin_numbers   integer[] not null,
    bin_max       integer not null,
    run_day       date not null,                    -- the partition of its attempts
    opens_at      timestamptz not null,
    closes_at     timestamptz not null,
    planned_at    timestamptz not null,
    started_at    timestamptz,
    ended_at      timestamptz,
    members       bigint not null default 0,        -- when it was planned
    slots         integer not null default 0,
    skipped_until timestamptz,                      -- of a skipped run: the last logical time that the row stands for
    skipped       integer not null default 0,       -- and how many
    unique (job_id, logical_at, repeat)
) with (fillfactor = 70);
create index sync_run_open on scheduler.sync_run (job_id) where state in ('planned', 'running');

-- A range of keys (sync_bin, id) above the lower and up to the upper; without a lower bound it begins at (-1, ''),
-- without an upper one it ends at (2147483647, '').
create table scheduler.sync_slot (
    run_id         bigint not null references scheduler.sync_run,
    number         integer not null,
    job_id         integer not null,
    lane           smallint not null default 1,     -- 0 forced, 1 scheduled, 2 retry, 3 sweeper
    state          text not null default 'queued' check (state in ('queued', 'leased', 'done', 'cancelled')),
    due_at         timestamptz not null,            -- from when it may be leased; of a leased slot: when the lease expires
    planned_at     timestamptz not null,            -- when it was due at first
    members        integer not null,                -- when it was cut
    lower_bin      integer not null,
    lower_id       text collate "C" not null,
    upper_bin      integer not null,
    upper_id       text collate "C" not null,
    next_bin       integer not null,                -- the key up to which it is done
    next_id        text collate "C" not null,
    token          bigint not null default 0,       -- raised by each lease
    worker         text,                            -- of the latest lease, as what follows
    request_number bigint,
    leased_at      timestamptz,
    paid_at        timestamptz,                     -- when the batch at next_… was paid; null: it is not
    batch_bins     integer[] not null default '{}', -- the last keys of the batches still to be reported
    batch_ids      text[] not null default '{}',
    batch_digests  bigint[] not null default '{}',  -- and the digest of the ids in each
    has_rest       boolean not null default false,  -- there are members behind the last batch
    last_bin       integer,                         -- where the batch began that was reported last under this token
    last_id        text collate "C",
    failures       integer not null default 0,      -- calls that failed as a whole
    synced         integer not null default 0,
    unchanged      integer not null default 0,
    gone           integer not null default 0,
    retry          integer not null default 0,
    failed         integer not null default 0,
    ended_at       timestamptz,
    primary key (run_id, number)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
create index sync_slot_due on scheduler.sync_slot (job_id, lane, due_at) where state in ('queued', 'leased');
create index sync_slot_open on scheduler.sync_slot (run_id) where state in ('queued', 'leased');
-- A request that is sent twice at the same time gets one lease.
create unique index sync_slot_request on scheduler.sync_slot (worker, request_number) where state = 'leased';

-- One row for each outcome, never changed. Partitions are attached by whoever plans a run of their day.
create table scheduler.sync_attempt (
    run_id       bigint not null,
    item_id      text collate "C" not null,
    try          smallint not null,                 -- 0: met in its slot
    run_day      date not null,
    job_id       integer not null,
    outcome      smallint not null,                 -- 1 synced, 2 unchanged, 3 gone, 4 retry, 5 failed
    attempted_at timestamptz not null,
    detail       text not null default '',
    primary key (run_id, item_id, try, run_day)
) partition by range (run_day);

create table scheduler.sync_state (
    job_id          integer not null,
    item_id         text collate "C" not null,
    last_success_at timestamptz,
    last_attempt_at timestamptz not null,
    last_outcome    smallint not null,
    failures        integer not null default 0,     -- attempts since the last success
    next_try_at     timestamptz,
    primary key (job_id, item_id)
) with (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.02,
        autovacuum_analyze_scale_factor = 0.02);
create index sync_state_next_try on scheduler.sync_state (job_id, next_try_at) where next_try_at is not null;

create table scheduler.sync_worker (
    name       text collate "C" primary key,
    handlers   text[] not null,
    created_at timestamptz not null,
    asked_at   timestamptz not null
) with (fillfactor = 50);

create table scheduler.quota (
    name                text collate "C" primary key,
    kind                text not null check (kind in ('units_per_day')),
    limit_units         bigint not null check (limit_units > 0),
    zone                text not null,
    protected_percent   integer not null,
    protected_units     bigint not null,            -- that share of the limit, at least 1
    send_within_seconds double precision not null,
    closed_until        timestamptz,
    closed_reason       text not null default '',
    closed_day          date,                       -- the day in whose first minutes it was closed for a minute, doubling
    closed_times        integer not null default 0,
    created_at          timestamptz not null,
    changed_at          timestamptz not null
);

create table scheduler.quota_use (
    quota  text collate "C" not null references scheduler.quota,
    day    date not null,                           -- in the quota's zone
    used   bigint not null default 0,               -- by work that is not forced
    forced bigint not null default 0,
    primary key (quota, day)
) with (fillfactor = 50);
