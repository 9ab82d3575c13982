"""How each fault is done, and undone."""
