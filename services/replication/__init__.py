"""Replicates rows between regions: each region owns the rows that it made, and only it sends them.

A region is a whole Tally with a Postgres of its own. What a peer lacks follows from the tables alone: the owner's rows
and tombstones carry the transaction that last changed them, and the peer keeps a snapshot of the owner's Postgres, its
watermark. A pass sends what is visible now and was not in that snapshot. docs/replication.md has the rules.

Invariants:
- a version is drawn while the row, or its location, is locked; a later snapshot shows a later version;
- a receiver applies a frame together with its cursor, as the next of the stream in force, or not at all;
- nothing that has to be sent exists in memory or in a queue only.
"""
