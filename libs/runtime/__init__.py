"""What a service is opened with, what it offers, loops that must not die, and children that are started again."""
