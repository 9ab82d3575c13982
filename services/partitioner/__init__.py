"""Accepts requests and makes them durable: stateless, any number of instances.

A request is checked, cut into entries by partition alone (`libs.domain.partition`), and acknowledged when every entry
is durable (`intake`). Each entry goes to the shard that leads its partition, or to the next one; entries of many
requests share a call, and a shard in the same process gets them directly (`routing`).

Invariants:
- a retry is cut into the same entries under the same keys, whichever shards are alive;
- one bad event refuses its whole request, before anything is sent;
- a request is acknowledged only when all of its entries are.
"""
