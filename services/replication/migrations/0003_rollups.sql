-- The counts of other regions. A region's part has copies: readers see the one that its watermark names, so that a load
-- into another copy becomes visible with one update (T003-38).
create table replication.received_rollup (
    device      uuid not null,
    copy        integer not null,
    video_id    text collate "C" not null,
    event_type  text collate "C" not null,
    minute      integer not null,
    generation  integer not null,
    count       bigint not null,
    value_count bigint not null,
    sum         double precision not null,
    min         double precision,
    max         double precision,
    m2          double precision not null,
    primary key (video_id, event_type, minute, generation, device, copy)
) with (fillfactor = 80);
create index received_rollup_copy on replication.received_rollup (device, copy);

-- The rows of the pass in progress, seen by nobody until it is complete.
create table replication.rollup_pass (
    device      uuid not null,
    video_id    text collate "C" not null,
    event_type  text collate "C" not null,
    minute      integer not null,
    generation  integer not null,
    count       bigint not null,
    value_count bigint not null,
    sum         double precision not null,
    min         double precision,
    max         double precision,
    m2          double precision not null
);
create index rollup_pass_device on replication.rollup_pass (device);

-- A load that is not visible yet.
create table replication.rollup_load (
    device      uuid primary key,
    copy        integer not null,
    epoch       bigint not null,
    begun_at    pg_snapshot not null,               -- of the owner's Postgres, before the first page
    word        bigint not null,
    after       bytea,                              -- a serialized RollupKey: everything up to it is here
    is_complete boolean not null default false
);

alter table replication.watermark add column copy integer not null default 0; -- of a counting model

-- Each lane has its own problem: what one of them has overcome may still hold up the other.
alter table replication.lane
    add column problem text not null default '',
    add column problem_at timestamptz;
alter table replication.region drop column problem, drop column problem_at;
