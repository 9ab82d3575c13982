-- Items are tried again one by one, and those that are given up are listed.

alter table scheduler.sync_slot
    add column try smallint not null default 0,         -- of its items: 0 in a range of keys, from 1 on in a retry
    add column item_ids text[];                         -- of a slot of retries, which is no range; null: it is one

alter table scheduler.sync_state
    add column run_id bigint not null default 0,        -- the newest run in which the item has an outcome
    add column next_try smallint not null default 0;    -- the number of the try that is due at next_try_at, in that run

-- One for each item of a job; a success or `gone` removes it, and so does an operator.
create table scheduler.sync_dead_letter (
    job_id     integer not null references scheduler.sync_job,
    item_id    text collate "C" not null,
    run_id     bigint not null,                         -- in which it failed last
    tries      smallint not null,                       -- so often in that run
    outcome    smallint not null,                       -- 4 retry: too often; 5 failed
    detail     text not null,
    created_at timestamptz not null,
    changed_at timestamptz not null,
    primary key (job_id, item_id)
);
