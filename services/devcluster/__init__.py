"""What runs a cluster, or two regions, on one machine."""
