"""Postgres and Valkey: connections, what their errors mean, and the schema."""
