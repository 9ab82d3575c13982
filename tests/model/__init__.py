"""A small explicit-state model of why the counts are right: every interleaving of a small world is tried.

`state.py` is what there is at one instant, `rules.py` what is believed to be needed, `steps.py` what may happen
next, `invariants.py` what must hold, `explore.py` the search. `python -m tests.model` runs it for a human.
"""
