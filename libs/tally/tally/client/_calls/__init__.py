"""Calls to a service: the rpcs, one connection, and the mapping of errors."""
