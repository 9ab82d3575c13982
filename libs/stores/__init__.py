"""Postgres: connections, what the end of a statement means, its clock, and the schema."""
