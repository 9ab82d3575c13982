"""`tally dead-letters` and `tally floor`."""
