-- The record of the catalog: types, resources, rules, and the feed of changes that every replica follows.

create schema if not exists catalog;

-- One row. Its lock, held until the commit, is what makes the numbers of changes visible in their order.
create table catalog.feed (
    only_row    boolean primary key default true check (only_row),
    identity    text not null default '',       -- the cluster's epoch and Postgres's timeline when it was drawn last
    last_change bigint not null default 0,      -- epoch of the feed × 2^40 + a number
    kept_after  bigint not null default 0       -- changes up to here may have been removed
);
insert into catalog.feed default values;

create table catalog.change (
    change  bigint not null,
    kind    text not null check (kind in ('put', 'deleted', 'rules', 'type', 'dimension')),
    subject text collate "C" not null,
    removed text[] not null default '{}',       -- sets that the resource left
    scores  double precision[] not null default '{}',   -- the resource's, in the order of its type's sorts
    made_at timestamptz not null default now(),
    primary key (change, kind, subject)
);
create index change_made_at on catalog.change using brin (made_at);

create table catalog.type (
    suffix     text collate "C" primary key check (suffix ~ '^[a-z]$'),
    name       text not null unique,
    definition bytea not null,                  -- tally.catalog.v1.Type
    change     bigint not null default 0
);

create table catalog.resource (
    id          text collate "C" primary key check (id ~ '^[1-9][0-9]{0,14}[a-z]$'),
    suffix      text collate "C" not null references catalog.type,
    external_id text collate "C",
    details     bytea not null,                 -- JSON as it was given
    parent      text collate "C" references catalog.resource,
    keys        text[] collate "C" not null,    -- the sets that it is in
    scores      double precision[] not null,    -- in the order of its type's sorts
    fingerprint bytea not null,
    version     bigint not null default 0,      -- the change that stored it
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),
    unique (suffix, external_id)
) with (fillfactor = 90);
alter table catalog.resource alter column details set storage external;
create index resource_parent on catalog.resource (parent) where parent is not null;

create table catalog.subject (
    subject     text collate "C" primary key,   -- the id of a resource, or a set
    fingerprint bytea not null,
    change      bigint not null default 0
);
create table catalog.rule (
    subject      text collate "C" not null references catalog.subject,
    priority     integer not null,
    countries    text[] not null,               -- empty: all
    applications text[] not null,
    platforms    text[] not null,
    from_us      bigint,                        -- microseconds since 1970-01-01 UTC
    to_us        bigint,
    allow        boolean not null,
    reason       text not null,
    primary key (subject, priority)
);

create table catalog.dimension (
    kind   text not null check (kind in ('application', 'platform')),
    code   text collate "C" not null,
    primary key (kind, code)
);

-- One row for each process that answers finds; see services/catalog/replicas.py.
create table catalog.replica (
    replica_id            uuid primary key,
    serving               boolean not null,
    applied_change        bigint not null,
    asked_at              timestamptz not null,
    max_staleness_seconds double precision not null
) with (fillfactor = 20);
