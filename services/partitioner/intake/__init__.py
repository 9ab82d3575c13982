"""From a request to entries: validation, the cut by partition, and the receipt."""
