"""Recovery of logs whose buffer was lost, and upkeep of the journal's partitions and floors."""
