-- What a region owns (location, entry, tombstone), what it knows of others (received_*), and how far the lanes are.
-- The rules that these tables hold are in docs/replication.md; the numbers in comments are theirs.

create schema replication;

-- One sequence for all models of the region, without a cache, so that versions rise in the order of the row locks (1).
create sequence replication.version as bigint cache 1;

create table replication.region (
    device     uuid primary key,                    -- the id of its cluster
    name       text not null,
    address    text not null,                       -- empty for this region
    is_own     boolean not null default false,
    policy     text not null default 'follow' check (policy in ('follow', 'lazy')),
    epoch      bigint not null default 0,           -- as last seen
    problem    text not null default '',            -- why nothing comes from it
    problem_at timestamptz,
    partition  text not null default '',            -- the partition of received_entry that holds its rows
    created_at timestamptz not null default now()
);
create unique index region_own on replication.region (is_own) where is_own;

-- The owner's epoch, and what it was made from. Another timeline or another server is another epoch (T003-28).
create table replication.epoch (
    only_row          boolean primary key default true check (only_row),
    epoch             bigint not null,
    cluster_epoch     bigint not null,
    timeline          bigint not null,
    system_identifier text not null
);

-- What this region owns

create table replication.location (
    uuid        uuid primary key,
    kind        text not null,
    origin      text not null,
    entry_count bigint not null default 0,
    indexed_at  timestamptz not null default now(),
    strategy    text check (strategy in ('change', 'batch', 'notify', 'snapshot')), -- forced; null: chosen
    version     bigint not null,
    changed     xid8 not null
);
create index location_changed on replication.location (changed, uuid);

create table replication.entry (
    uuid        uuid primary key,
    location    uuid not null,
    parent      uuid,
    kind        text not null,
    name        text not null,
    size_bytes  bigint not null default 0,
    modified_at timestamptz not null default 'epoch',
    fingerprint bytea not null default '',
    details     text not null default '',
    version     bigint not null,
    changed     xid8 not null
);
create index entry_changed on replication.entry (changed, location, uuid);
create index entry_location on replication.entry (location, uuid);

-- A row that is gone, or a location that is gone with all of its rows. Of a key there is a row or a tombstone.
create table replication.tombstone (
    model      text not null check (model in ('entry', 'location')),
    key        uuid not null,
    location   uuid not null,
    version    bigint not null,
    changed    xid8 not null,
    deleted_at timestamptz not null default now(),
    primary key (model, key)
);
create index tombstone_changed on replication.tombstone (changed, location, key);
create index tombstone_location on replication.tombstone (location, key);

-- Tombstones of transactions below this one may have been pruned (7).
create table replication.floor (
    model text primary key,
    below xid8 not null
);

create table replication.peer_ack (
    peer      uuid not null,
    model     text not null,
    epoch     bigint not null,
    watermark pg_snapshot not null,
    word      bigint not null,
    acked_at  timestamptz not null default now(),
    primary key (peer, model)
);

create table replication.closing_word (
    number    bigint generated always as identity,
    peer      uuid not null,
    model     text not null,
    epoch     bigint not null,
    watermark pg_snapshot not null,
    word      bigint not null,
    primary key (peer, model, word)
);

create table replication.snapshot_export (
    id         uuid primary key,
    watermark  pg_snapshot not null,
    manifest   bytea not null,                      -- an ExportDeviceStateResponse, without a word
    made_at    timestamptz not null default now()
);

create table replication.snapshot_chunk (
    export uuid not null references replication.snapshot_export on delete cascade,
    number integer not null,
    codec  integer not null,
    data   bytea not null,
    primary key (export, number)
);
alter table replication.snapshot_chunk alter column data set storage external;

-- What other regions own

create table replication.received_location (
    device      uuid not null,
    uuid        uuid not null,
    kind        text not null,
    origin      text not null,
    entry_count bigint not null,
    indexed_at  timestamptz not null,
    epoch       bigint not null,
    version     bigint not null,
    primary key (device, uuid)
);

-- A partition for each region: a snapshot becomes visible by attaching one.
create table replication.received_entry (
    device      uuid not null,
    uuid        uuid not null,
    location    uuid not null,
    parent      uuid,
    kind        text not null,
    name        text not null,
    size_bytes  bigint not null,
    modified_at timestamptz not null,
    fingerprint bytea not null,
    details     text not null,
    epoch       bigint not null,
    version     bigint not null,
    primary key (device, uuid)
) partition by list (device);
create index received_entry_location on replication.received_entry (device, location, uuid);

-- The lane of a (device, model): who holds it, and the only frame that is applied next (4, T003-44).
create table replication.lane (
    device      uuid not null,
    model       text not null,
    stream      bigint not null default 0,
    frame       bigint not null default 0,
    holder      uuid,
    lease_until timestamptz not null default '-infinity',
    primary key (device, model)
) with (fillfactor = 50);

-- How far the rows of a (device, model) are, and where the pass in progress is.
create table replication.watermark (
    device          uuid not null,
    model           text not null,
    epoch           bigint not null,
    snapshot        pg_snapshot not null,           -- of the owner's Postgres
    word            bigint not null,
    as_of           timestamptz not null,
    target          pg_snapshot,                    -- of the pass in progress
    target_as_of    timestamptz,
    cursor_changed  xid8,
    cursor_location uuid,
    cursor_key      uuid,
    received_rows   bigint not null default 0,
    received_high   numeric not null default 0,
    received_low    numeric not null default 0,
    primary key (device, model)
) with (fillfactor = 50);

-- A location that has no row here is current (6).
create table replication.peer_state (
    device        uuid not null,
    location      uuid not null,
    state         text not null check (state in ('current', 'loading', 'behind')),
    loaded_to     pg_snapshot,                      -- null: never loaded, or to be loaded anew
    entry_count   bigint not null default 0,        -- as the owner announced it
    changed_count bigint not null default 0,
    indexed_at    timestamptz,
    is_wanted     boolean not null default false,   -- to be loaded
    load_key      uuid,                             -- the load in progress has everything up to this key
    load_replaces boolean not null default false,
    transfer      uuid,
    primary key (device, location)
);

create table replication.transfer (
    id         uuid primary key,
    device     uuid not null,
    strategy   text not null,
    location   uuid,
    phase      text not null,
    rows_done  bigint not null default 0,
    rows_total bigint not null default 0,
    bytes_done bigint not null default 0,
    rows_again bigint not null default 0,
    error      text not null default '',
    begun_at   timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index transfer_updated on replication.transfer (updated_at);

-- Versions and changes of own rows

create function replication.stamp_location() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' and new.uuid <> old.uuid then
        raise exception 'a location keeps its id' using errcode = 'integrity_constraint_violation';
    end if;
    new.version := nextval('replication.version');
    new.changed := pg_current_xact_id();
    return new;
end $$;
create trigger stamp before insert or update on replication.location
    for each row execute function replication.stamp_location();

-- Puts hold the location's row shared, deletes exclusively, before a version is drawn (1, T003-45).
create function replication.stamp_entry() returns trigger language plpgsql as $$
declare
    buried uuid;
begin
    if tg_op = 'UPDATE' and (new.uuid <> old.uuid or new.location <> old.location) then
        raise exception 'an entry keeps its id and its location' using errcode = 'integrity_constraint_violation';
    end if;
    perform from replication.location where uuid = new.location for share;
    if not found then
        raise exception 'there is no location %', new.location using errcode = 'foreign_key_violation';
    end if;
    if tg_op = 'INSERT' then
        delete from replication.tombstone where model = 'entry' and key = new.uuid returning location into buried;
        if buried <> new.location then
            raise exception 'the id % was used in another location; take a new one', new.uuid
                using errcode = 'integrity_constraint_violation';
        end if;
    end if;
    new.version := nextval('replication.version');
    new.changed := pg_current_xact_id();
    return new;
end $$;
create trigger stamp before insert or update on replication.entry
    for each row execute function replication.stamp_entry();

create function replication.bury_entry() returns trigger language plpgsql as $$
begin
    if current_setting('replication.deleted_location', true) = old.location::text then
        return old;                                 -- the tombstone of the location says it
    end if;
    perform from replication.location where uuid = old.location for update;
    insert into replication.tombstone (model, key, location, version, changed)
    values ('entry', old.uuid, old.location, nextval('replication.version'), pg_current_xact_id());
    return old;
end $$;
create trigger bury before delete on replication.entry
    for each row execute function replication.bury_entry();

create function replication.bury_location() returns trigger language plpgsql as $$
begin
    perform set_config('replication.deleted_location', old.uuid::text, true);
    delete from replication.entry where location = old.uuid;
    delete from replication.tombstone where model = 'entry' and location = old.uuid;
    perform set_config('replication.deleted_location', '', true);
    insert into replication.tombstone (model, key, location, version, changed)
    values ('location', old.uuid, old.uuid, nextval('replication.version'), pg_current_xact_id())
    on conflict (model, key) do update
        set version = excluded.version, changed = excluded.changed, deleted_at = excluded.deleted_at;
    return old;
end $$;
create trigger bury before delete on replication.location
    for each row execute function replication.bury_location();

create function replication.refuse_truncate() returns trigger language plpgsql as $$
begin
    raise exception 'rows that are truncated would stay at every peer; delete them';
end $$;
create trigger refuse_truncate before truncate on replication.entry
    for each statement execute function replication.refuse_truncate();
create trigger refuse_truncate before truncate on replication.location
    for each statement execute function replication.refuse_truncate();

-- The 128-bit hash of a row, as 32 hexadecimal digits: `hashing.py` computes the same.
create function replication.entry_hash(
    uuid uuid, location uuid, parent uuid, kind text, name text, size_bytes bigint, modified_at timestamptz,
    fingerprint bytea, details text
) returns text immutable parallel safe language sql return md5(
    uuid_send(uuid) || uuid_send(location)
    || uuid_send(coalesce(parent, '00000000-0000-0000-0000-000000000000'::uuid))
    || int4send(octet_length(kind)) || convert_to(kind, 'UTF8')
    || int4send(octet_length(name)) || convert_to(name, 'UTF8')
    || int8send(size_bytes) || int8send((extract(epoch from modified_at) * 1000000)::bigint)
    || int4send(octet_length(fingerprint)) || fingerprint
    || int4send(octet_length(details)) || convert_to(details, 'UTF8')
);
create function replication.upper_half(hash text) returns bigint immutable parallel safe language sql
    return ('x' || left(hash, 16))::bit(64)::bigint;
create function replication.lower_half(hash text) returns bigint immutable parallel safe language sql
    return ('x' || right(hash, 16))::bit(64)::bigint;

-- Whether all that is visible in an older snapshot is visible in a newer one of the same server.
create function replication.covers(newer pg_snapshot, older pg_snapshot) returns boolean stable language sql
    return pg_snapshot_xmax(newer) >= pg_snapshot_xmax(older)
        and not exists (select from pg_snapshot_xip(newer) as xip where pg_visible_in_snapshot(xip, older));
