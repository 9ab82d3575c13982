-- The journal is whole from this id on. Whoever drops a partition that may have held entries first raises this to the end
-- of the partition's range, and commits: the floor is never lowered below it, because an id whose entry is gone would be
-- counted again. An empty partition below the floor may go without that, if it is found empty under the lock that drops it
-- and under the advisory lock 7305802, which keeps the floor where it is.
alter table cluster add column journal_from uuid not null default '00000000-0000-0000-0000-000000000000';
