"""A model of upkeep: sealing of generations and rolling up, concurrent with openings, flushes, replays and readers."""
