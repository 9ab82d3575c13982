"""From an entry to a committed insert: the log of a shard, its queue, and the group commit."""
