"""Finds resources for a viewer, by sets and in any order: any number of replicas, each of which can answer alone.

Postgres is the record. Each replica holds sets, orders and rights in memory, as of one change, and follows the feed of
changes. Valkey holds a projection of the record, from which only details are read.

Invariants:
- a find works on one view, which is what one snapshot of Postgres showed;
- an answer that leaves was checked against the newest rights, for every instant that can be now by Postgres's clock;
- a replica that cannot be sure of the rules refuses;
- nothing about rights is read from Valkey.
"""
