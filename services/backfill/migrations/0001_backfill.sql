-- Jobs, accounts and parts of the backfill, and the ledger of what was counted.

create schema backfill;

create table backfill.job (
    job_id     text collate "C" primary key,
    batch_size integer not null,
    stream     uuid,                                -- the stream that fills it, while it has no digest
    digest     bytea,                               -- of the stream of DIDs; null: the stream has not ended yet
    created_at timestamptz not null default now()
);
create index job_newest on backfill.job (created_at, job_id);

create table backfill.job_repo (
    job_id text collate "C" not null references backfill.job,
    did    text collate "C" not null,
    primary key (job_id, did)
);

create table backfill.host (
    host_id integer generated always as identity primary key,
    url     text collate "C" not null unique
);

-- What a worker handed over at once: parts, and the accounts whose records they hold.
create table backfill.delivery (
    delivery_id text collate "C" primary key,       -- made from its content
    created_at  timestamptz not null default now()
);
create table backfill.part (
    delivery_id text collate "C" not null references backfill.delivery,
    name        text collate "C" not null,          -- of the object, made from its content
    collection  text collate "C" not null,
    row_count   bigint not null,
    byte_count  bigint not null,
    primary key (delivery_id, name)
);
create index part_collection on backfill.part (collection);

create table backfill.repo (
    did          text collate "C" primary key,
    bucket       smallint not null check (bucket between 0 and 63),
    state        text not null default 'waiting' check (state in ('waiting', 'ready', 'stored', 'failed')),
    attempts     integer not null default 0,
    reason       text not null default '',          -- of the last failure
    detail       text not null default '',
    renewed      boolean not null default false,    -- resolved once more after a failure that this may mend
    next_try_at  timestamptz not null default now(),
    host_id      integer references backfill.host,
    key_type     text,
    key          text,
    put_at       timestamptz,                       -- when the scheduler was told of it
    rev          text collate "C",                  -- of what is stored
    delivery_id  text collate "C" references backfill.delivery, -- a row of a part counts only if this is the part's
    record_count bigint,
    stored_at    timestamptz
) with (fillfactor = 70);
create index repo_waiting on backfill.repo (next_try_at) where state = 'waiting';
create index repo_ready on backfill.repo (did) where state = 'ready';
create index repo_stored on backfill.repo (delivery_id) where delivery_id is not null;

-- There is one dataset, because a second one would hold the same likes again.
create table backfill.dataset (
    only_row   boolean primary key default true check (only_row),
    dataset_id uuid not null default gen_random_uuid()
);
insert into backfill.dataset default values;

create table backfill.plan (
    plan_id    bigint generated always as identity primary key,
    bucket     smallint not null,
    object     text not null,                       -- hashes of its events, and the exact bytes of its shipments
    hash_count bigint not null,
    created_at timestamptz not null default now(),
    closed_at  timestamptz
);
create table backfill.bucket (
    bucket        smallint primary key check (bucket between 0 and 63),
    version       bigint not null default 0,        -- raised by each change: compare and set
    counted       text,                             -- the object with the hashes of what is counted
    counted_count bigint not null default 0,
    plan_id       bigint references backfill.plan   -- the open plan
);
insert into backfill.bucket (bucket) select generate_series(0, 63);
create table backfill.shipment (
    plan_id       bigint not null references backfill.plan,
    number        integer not null,
    partition     integer not null,
    event_count   integer not null,
    start         bigint not null,                  -- of its bytes in the plan's object
    length        integer not null,
    attempt       integer not null default 1,
    first_sent_ms bigint,                           -- stored before the first send; the request id is made from it
    receipt       text,                             -- journaled or duplicate
    done_at       timestamptz,
    primary key (plan_id, number)
);
create index shipment_open on backfill.shipment (plan_id, number) where done_at is null;
