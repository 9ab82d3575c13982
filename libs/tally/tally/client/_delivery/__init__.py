"""Sends one request under one id until it has a result: attempts, retries, and transports."""
