"""Traces, metrics and logs, each set up in one place and handed to whoever needs it."""
