"""Programs that put a load on Tally from outside, as its users do, and check what was counted."""
