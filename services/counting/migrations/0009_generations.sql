-- Generations are sealed, and rolled up into hours, days and totals (ADR 29).

alter table counting.generation
    add column opened_at timestamptz not null default now(),
    add column rolled_to bigint,                    -- of the videos whose hash is below, hours, days and totals are there
    add column rolled_at timestamptz,               -- since when those of all videos are
    add column rolled_events bigint not null default 0, -- the events that are in them
    add check ((rolled_to is null and rolled_at is null and rolled_events = 0) or sealed_at is not null);
create index generation_open on counting.generation (generation) where rolled_at is null;

-- Hours, days and totals of all generations. Nothing is flushed to them, so for a version of before they are sealed.
insert into counting.generation (generation, sealed_at) values (-1, now()), (-2, now()), (-3, now());
create table counting.rollup_block_hour partition of counting.rollup_block for values in (-1) with (toast_tuple_target = 8160);
create table counting.rollup_block_day partition of counting.rollup_block for values in (-2) with (toast_tuple_target = 8160);
create table counting.rollup_block_total partition of counting.rollup_block for values in (-3) with (toast_tuple_target = 8160);
alter table counting.rollup_block_hour alter column body set storage external;
alter table counting.rollup_block_day alter column body set storage external;
alter table counting.rollup_block_total alter column body set storage external;

-- The hours of which a rolled generation has minutes: hours since 1970-01-01 UTC.
create table counting.generation_hour (
    hour       integer not null,
    generation integer not null,
    primary key (hour, generation)
);

create index rollup_run_generation on counting.rollup_run (generation);
create index flush_log_generation on counting.flush_log (generation);
