-- A dead letter outlives the journal's partition, and may never have been in the journal: a spooled entry that came
-- too late. So it keeps what it needs to be replayed, and what became of it.

alter table dead_letter
    alter column log_id drop not null,              -- null, as `seq`: it was never in the journal
    alter column seq drop not null,
    add column received_at timestamptz,
    add column request_hash bigint,
    add column payload bytea,
    add column state text not null default 'waiting' check (state in ('waiting', 'replayed', 'dropped')),
    add column generation integer,                  -- of the rollups that a replay added it to
    add column decided_at timestamptz,
    add column note text not null default '',       -- what was found when it was decided
    add check ((log_id is null) = (seq is null)),
    add check ((state = 'waiting') = (decided_at is null)),
    add check ((state = 'replayed') = (generation is not null));
alter table dead_letter alter column payload set storage external;
update dead_letter set (received_at, request_hash, payload) =
    (select received_at, request_hash, payload from journal where journal.request_id = dead_letter.request_id
        and journal.partition = dead_letter.partition);
alter table dead_letter
    alter column received_at set not null,
    alter column request_hash set not null,
    alter column payload set not null;
create index dead_letter_in_order on dead_letter (state, created_at, request_id, partition);
create index dead_letter_of_log on dead_letter (log_id, seq);
