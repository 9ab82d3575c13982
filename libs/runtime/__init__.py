"""What a service is opened with, what it offers, and loops that must not die."""
