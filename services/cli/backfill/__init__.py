"""`tally backfill`."""
