"""From entries to the shards that lead their partitions: discovery, liveness, placement, and calls."""
