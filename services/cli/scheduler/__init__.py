"""`tally videos`, `tally channels`, `tally quota` and `tally jobs`."""
