"""The types and the arithmetic of the services. Pure: imports neither gRPC nor a driver, and does no I/O."""
