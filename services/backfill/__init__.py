"""The backfill: Bluesky repositories are fetched by workers, verified, stored as a dataset, and counted.

It owns jobs, accounts, parts and the ledger. Work is leased to workers by the scheduler, over its population `repo`.
Invariants:

- A row of a part counts only if its account's row in Postgres names the delivery of the part. So parts that a worker
  wrote twice, or in vain, change nothing.
- A stored repository is replaced only by one of a later rev.
- A bucket has at most one open plan. After the transaction that inserts it, the plan and every byte that it sends are
  fixed.
- A shipment's request id is made from its row, and the row has the time of the first send before anything is sent.
- A record's event is in one plan only: a new plan excludes the counted set, and closing a plan adds its events to the
  counted set, both by compare and set of the bucket's version.
- JOURNALED and DUPLICATE mark a shipment done. SPOOLED does not: the entry is on one disk.
"""
