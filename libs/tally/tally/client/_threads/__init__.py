"""The asynchronous client, for threads."""
