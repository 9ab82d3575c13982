"""Replicates rows between regions: each region owns the rows that it made, and only it sends them.

A region is a complete Tally with its own Postgres. The tables alone determine what a peer lacks: the owner's rows and
tombstones have the id of the transaction that last changed them, and the peer keeps a snapshot of the owner's
Postgres, its watermark. A pass sends the rows that are visible now and were not in that snapshot. docs/replication.md
has the rules.

Invariants:
- a version is drawn while the row, or its location, is locked; a later snapshot shows a later version;
- a receiver applies a frame together with its cursor, and only if it is the next frame of the current stream;
- nothing that must be sent exists only in memory or in a queue.
"""
