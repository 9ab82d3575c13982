"""The fault table: what is broken under load, and what must hold all the same.

    make faults                 the whole table, one fault after the other
    make faults MINUTES=30      random combinations of them for so long
    make faults SEED=7          the same choices again

A round is one fault: clients count (`load.py`), something is broken and mended (`strikes/`, listed in `faults.py`), the
clients stop, and then the database is compared with what they were told (`invariants.py`).
"""
