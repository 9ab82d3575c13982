"""`tally count` and `tally replay`."""
