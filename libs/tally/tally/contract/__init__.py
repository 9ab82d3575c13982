"""What the client and the services must agree on: errors and their statuses, ids and names, and retries.

Both import it, so it imports neither, and no more than the standard library, grpcio, protobuf and pybreaker.
"""
