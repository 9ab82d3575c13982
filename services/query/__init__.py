"""Returns counts and statistics over any time range: stateless, any number of instances.

A total may come from Valkey (`hot`); everything else comes from the rollups in Postgres (`warm`), and a strong read
adds the journal's entries that are not in the rollups yet (`pending`).

Invariants:
- one answer is made from one snapshot;
- every event journaled before `as_of` is in the answer, and a strong read's `as_of` is not before the call;
- totals in Valkey may be old, but not wrong; Valkey may be unreachable.
"""
