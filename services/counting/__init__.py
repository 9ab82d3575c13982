"""Makes entries durable, exactly once, and counts them.

A shard's life is a log. Entries are numbered and inserted into the journal, one group at a time (`journal`). Their
events are added up in memory and moved to the rollups once a second (`flush`). When a statement is in doubt, the log
is given up, a new one is opened (`shard`), and the old one is recovered like that of a dead shard (`recovery`).
During an outage of Postgres, entries go to the shard's own disk, and later from there into the journal (`spool`).
Entries that cannot be applied are kept for an operator (`dead_letters`).

Invariants:
- an entry is acknowledged only after the commit of its insert, or, as SPOOLED, after a commit of the spool;
- an entry leaves the spool only when it is in the journal or among the dead letters;
- a log has at most one insert under way, so commit order is seq order;
- rollups = exactly the events of the journal before the position of their log, less the dead letters. The position
  is a checkpoint: all entries up to its seq, and a number of events of the next one (nearly always none).
"""
