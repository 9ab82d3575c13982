-- Journal partitions that were dropped because they were empty and below every floor: no id of theirs was ever journaled,
-- so a dead letter with such an id can still be replayed.

create table dropped_partition (
    name       text primary key,
    first_id   uuid not null,                       -- the partition's bounds: [first_id, end_id)
    end_id     uuid not null,
    dropped_at timestamptz not null default now()
);
