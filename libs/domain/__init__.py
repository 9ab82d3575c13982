"""The words and the arithmetic of counting. Pure: knows neither gRPC nor a driver, and does no I/O."""
