"""Collects single events into batches."""
