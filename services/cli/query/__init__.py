"""`tally get`."""
