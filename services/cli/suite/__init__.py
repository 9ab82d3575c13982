"""Commands that belong to no single service: they run all of Tally, check it, and prepare its database."""
