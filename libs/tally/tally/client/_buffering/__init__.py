"""Events that were handed in one by one, gathered into batches."""
