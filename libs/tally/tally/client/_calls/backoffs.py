"""How long a client waits before it retries: itself, where it retries batches, and gRPC, where gRPC retries."""

from tally.contract.backoff import Backoff

FIRST_S = 0.1
OF_BATCHES = Backoff(first_s=FIRST_S, longest_s=5.0)
OF_GRPC = {"initialBackoff": f"{FIRST_S}s", "maxBackoff": "2s", "backoffMultiplier": 3}
"""Part of a `retryPolicy` (https://github.com/grpc/grpc/blob/master/doc/service_config.md)."""
