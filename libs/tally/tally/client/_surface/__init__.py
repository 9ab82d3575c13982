"""The namespaces of the client."""
