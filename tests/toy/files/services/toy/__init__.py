"""Keeps toys, and tells how often each was viewed: the query service counts, Postgres keeps the colours."""
