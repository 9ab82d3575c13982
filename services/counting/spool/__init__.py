"""Entries on the shard's own disk while Postgres is away, and their drain into the journal."""
