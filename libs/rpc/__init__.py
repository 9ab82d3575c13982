"""How services speak gRPC: one server builder, one way to open a channel, one table of errors."""
