"""`tally catalog`."""
