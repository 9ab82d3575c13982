"""Load on the scheduler: users who work as workers, and the proof that each member has one outcome in each run."""
