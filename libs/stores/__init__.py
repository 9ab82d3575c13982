"""Postgres: connections, the results of statements, its clock, and the schema."""
