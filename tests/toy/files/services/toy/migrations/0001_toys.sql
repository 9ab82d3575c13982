create schema if not exists toy;

create table toy.toy (
    name   text collate "C" primary key,
    colour text not null
);
