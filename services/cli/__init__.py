"""The `tally` command. Beside `python -m services`, the only one that opens services; all else is an rpc."""
