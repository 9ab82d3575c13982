"""The backfill: Bluesky repositories are fetched by workers, verified, stored as a dataset, and counted.

It owns jobs, accounts, parts and the ledger. Work is leased to workers by the scheduler, over its population `repo`.
Always true:

- A row of a part counts only if its account's row in Postgres names the delivery that the part belongs to. So parts
  that a worker wrote twice, or for nothing, change nothing.
- A stored repository is replaced by one of a later rev alone.
- A bucket has at most one open plan. From the transaction that inserts it the plan, and every byte of what it sends,
  is fixed.
- A shipment's request id is made from its row, and the row has the time of the first send before anything is sent.
- A record's event is in a plan once: a new plan leaves out what is in the counted set, and the counted set takes in
  what a plan had when it is closed, both by compare and set of the bucket's version.
- JOURNALED and DUPLICATE mark a shipment done. SPOOLED does not: the entry is on one disk.
"""
