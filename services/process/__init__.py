"""The life of one process: how it finds its cluster, opens its services, reports that it is ready, and ends."""
