"""gRPC between services: one server builder, one way to open a channel, one table of errors."""
