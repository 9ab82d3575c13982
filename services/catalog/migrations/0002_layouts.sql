-- A layout is a type as it was when a row was indexed: it names the row's scores. A changed type gets a new layout, and
-- its resources follow in pieces.

create table catalog.layout (
    layout     integer generated always as identity primary key,
    definition bytea not null                   -- tally.catalog.v1.Type
);

alter table catalog.type add column layout integer references catalog.layout;
with made as (
    insert into catalog.layout (definition) select definition from catalog.type returning layout, definition
)
update catalog.type set layout = made.layout from made where made.definition = type.definition;
alter table catalog.type alter column layout set not null;

alter table catalog.resource add column layout integer;
update catalog.resource set layout = type.layout from catalog.type where type.suffix = resource.suffix;
alter table catalog.resource alter column layout set not null;

-- Changes of before name no layout, so every replica reads the record anew.
delete from catalog.change;
update catalog.feed set kept_after = last_change;
alter table catalog.change add column layout integer;   -- of the scores

-- Types whose resources are being indexed anew.
create table catalog.reindexing (
    suffix text collate "C" primary key references catalog.type,
    names  text[] not null,                     -- what is not complete: index:genre, sort:views, children:videos
    after  text collate "C" not null default '' -- resources up to this id are done
);

-- Resources that do not fit the type as it is now. They keep the sets and the scores that they had.
create table catalog.misfit (
    id      text collate "C" primary key references catalog.resource on delete cascade,
    problem text not null
);
