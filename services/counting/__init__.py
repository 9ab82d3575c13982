"""Makes entries durable, exactly once, and counts them.

A shard's life is a log. Entries are numbered and inserted into the journal, one group at a time (`journal`); what was
inserted is added up in memory and moved to the rollups once a second (`flush`). When anything is in doubt the log is
given up, a new one is opened (`shard`), and the old one is recovered like that of any shard that died (`recovery`).
While Postgres is away, entries go to the shard's own disk, and from there into the journal when it is back (`spool`).
What cannot be applied is set aside for an operator (`dead_letters`).

Invariants:
- only a committed insert is acknowledged, and only after its commit; or else a commit of the spool, as SPOOLED;
- an entry leaves the spool only when it is in the journal or among the dead letters;
- a log has at most one insert under way, so commit order is seq order;
- rollups = exactly the events of the journal before the position of their log, less the dead letters. The position
  is a checkpoint: all entries up to its seq, and of the next one so many events (nearly always none).
"""
