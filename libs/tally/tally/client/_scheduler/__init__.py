"""The types of tally.client.scheduler."""
