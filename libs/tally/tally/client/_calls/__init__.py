"""Calls to a service: the rpcs, one connection, and what its errors mean."""
