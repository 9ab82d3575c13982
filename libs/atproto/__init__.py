"""Reads and verifies repositories of the AT Protocol: pure functions over bytes, without I/O.

A repository arrives as a CAR file. `repo.read_repo` checks it from the outside in: frames (`car`), the hash of each
block (`cid`), the commit and its signature (`commit`, `keys`), the tree of keys (`tree`), and returns its records.
Specification: https://atproto.com/specs/repository, https://atproto.com/specs/data-model.
"""
