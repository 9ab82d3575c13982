"""The upkeep of generations: raised about hourly, sealed, and rolled up into hours, days and totals (ADR 29)."""
