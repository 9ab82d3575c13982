"""`fetch_repo`: fetches Bluesky repositories, verifies them, and delivers them in parts.

- A repository that was verified is kept in the checkpoint, an SQLite file on the worker's volume. A process that is
  killed redoes what was in progress, and no more.
- The accounts of the checkpoint become parts in the object store, and then a delivery. Until it is recorded, the
  batches of these accounts stay in progress, and their leases are extended.
- A checkpoint that outlives its process is delivered by the next one on the same volume, whatever became of the leases.
"""
