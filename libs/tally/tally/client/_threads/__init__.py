"""The blocking client: the asynchronous client, for threads."""
