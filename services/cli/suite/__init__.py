"""The commands of no single service: they run all of Tally, look at it, and prepare its database."""
