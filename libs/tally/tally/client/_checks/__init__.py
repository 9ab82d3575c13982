"""Validation of events and requests, before anything is sent."""
