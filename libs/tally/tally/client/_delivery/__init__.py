"""One request under one id, brought to its end: attempts, retries, and the transports that make them."""
