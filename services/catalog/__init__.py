"""Finds resources for a viewer, by sets and in any order: any number of replicas, each of which can answer alone.

Postgres has the authoritative data. Each replica has sets, orders and rights in memory, as of one change, and follows
the feed of changes. Valkey has a projection of these data, from which only details are read.

Invariants:
- a find works on one view, which equals one snapshot of Postgres;
- an answer is checked against the newest rights before it is sent, for every time that Postgres's clock can show now;
- a replica refuses finds if its rules may be stale;
- nothing about rights is read from Valkey.
"""
