"""An explicit-state model of merges of runs, beside flushes, readers and a sealing (ADR 27)."""
