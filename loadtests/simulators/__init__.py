"""A simulated network of accounts for the backfill: hosts that hand out repositories, and the directory.

Everything listens on 127.0.0.1. `Network` makes accounts from a seed, serves them, and keeps the truth: which events
their records are, what it served, and how many calls each window had. Every test is judged by it.
"""
