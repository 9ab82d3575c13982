"""A small explicit-state model of the rules of replication: every interleaving of a small world is tried.

One location with two keys, two writers, one peer. `state.py` is what there is at one instant, `rules.py` the rules
that can be switched off, `writers.py`, `sender.py`, `receiver.py` and `faults.py` what may happen next.
"""
