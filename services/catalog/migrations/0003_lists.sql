-- Lists: of a resource (9002u:subscriptions), or curated (list:featured). An entry may come before its resource.

create table catalog.list (
    number bigint generated always as identity primary key,
    list   text collate "C" not null unique,
    owner  text collate "C" references catalog.resource,    -- null: curated
    change bigint not null default 0                        -- the last that changed its entries
);
create index list_owner on catalog.list (owner) where owner is not null;

create table catalog.list_entry (
    number bigint not null references catalog.list,
    id     text collate "C" not null,
    score  bigint not null,                                 -- milliseconds of Postgres's clock, unique in the list
    primary key (number, id)
);
create index list_entry_id on catalog.list_entry (id);

alter table catalog.change drop constraint change_kind_check;
alter table catalog.change add constraint change_kind_check
    check (kind in ('put', 'deleted', 'rules', 'type', 'dimension', 'list'));
alter table catalog.change add column added text[] not null default '{}';   -- to a list, with `scores`
