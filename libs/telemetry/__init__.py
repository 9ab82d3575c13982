"""Traces, metrics and logs, each set up in one place and passed to the code that needs it."""
