-- The population of repositories: they are worked on host by host, because hosts limit calls.

create table scheduler.repo (
    did          text collate "C" primary key,
    sync_bin     integer not null default scheduler.new_sync_bin() check (sync_bin >= 0),
    host         integer not null,                  -- the number of the host that keeps it
    member_since timestamptz not null,              -- since when `is_wanted` and `gone` are as they are
    synced_at    timestamptz,                       -- the last success of any job
    is_wanted    boolean not null default true,     -- until it has an outcome other than retry
    gone         boolean not null default false
) with (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.02,
        autovacuum_analyze_scale_factor = 0.02);
create index ix_repo_wanted on scheduler.repo (host, did) where is_wanted and not gone;
