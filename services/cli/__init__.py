"""The `tally` command. It and `python -m services` are the only ones that open services; all else uses rpcs."""
