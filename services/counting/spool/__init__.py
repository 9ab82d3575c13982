"""Entries on the shard's own disk during an outage of Postgres, and their drain into the journal."""
