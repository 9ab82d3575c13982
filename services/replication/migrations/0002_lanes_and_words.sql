-- A lane that received other bytes than were sent, several times without completing anything, stops until an operator looks.
alter table replication.lane add column data_losses integer not null default 0;

-- How long a peer was away is told by the age of the last word that it has.
alter table replication.closing_word add column made_at timestamptz not null default now();
