"""Load on the backfill: users create jobs and count; then dataset and counts must be those of the repositories."""
