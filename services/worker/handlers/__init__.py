"""Handlers: the work on the items of a batch.

A handler is one class with a name and one method. It is idempotent: a batch may be handled again when its worker died
before the report. `metadata.py` is an example.
"""
