"""Merging of runs of the rollups, so that a read has few to visit."""
