-- Minutes are kept in blocks of cells, in place of a row each (ADR 27). The rows of before stay as they are: they are read
-- beside the blocks, and nothing is written to them any more.

-- A process of an earlier version may be running. It would read counts without the blocks, and replication would pass over
-- them. It finds no table under this name, so it neither reads nor flushes; this waits for what it has begun.
alter table counting.rollup_minute rename to rollup_row;

-- Cells in the order of their keys: what one transaction added, or what a merge made of such runs.
create table counting.rollup_run (
    run_id      bigint primary key,
    generation  integer not null,
    level       smallint not null default 0,        -- a merge makes one run of the next level
    into_run    bigint,                             -- what this run is being merged into
    is_complete boolean not null default true,      -- false: it is what others are being merged into
    check (is_complete or into_run is null)
);

create table counting.rollup_block (
    generation integer not null,
    run_id     bigint not null,
    first      bigint not null,                     -- XXH3 of the first cell's video
    number     integer not null,                    -- tells blocks with the same first apart
    cells      smallint not null check (cells > 0),
    events     bigint not null,
    body       bytea not null,
    primary key (generation, run_id, first, number) include (cells, events)
) partition by list (generation);
-- A block fits into a page, and is read whole: neither compressed, nor kept elsewhere.
alter table counting.rollup_block alter column body set storage external;
create table counting.rollup_block_1 partition of counting.rollup_block for values in (1) with (toast_tuple_target = 8160);
alter table counting.rollup_block_1 alter column body set storage external;
