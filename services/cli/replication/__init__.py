"""`tally regions`, `tally locations` and `tally replication`."""
