"""Entries that could not be applied, and the decisions of operators about them."""
