-- A region that was copied has the counts of the one that it was made from, until they are emptied: which one that is.
alter table replication.region add column counts_of uuid;

-- An export is kept for as long as somebody reads it.
alter table replication.snapshot_export add column read_at timestamptz not null default now();
