"""The context of a service, the handles that it offers, background loops, and children that are restarted."""
