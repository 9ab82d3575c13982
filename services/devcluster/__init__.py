"""Runs a cluster, or two regions, on one machine."""
