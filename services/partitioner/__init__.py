"""Takes requests in and makes them durable: stateless, any number side by side.

A request passes the door (`door`), is cut into entries by partition alone (`libs.domain.partition`), and is
acknowledged when every entry is durable (`ingest`). Each entry goes to the shard that leads its partition, or to the
next one (`router`); entries of many requests share a call (`sender`), and a shard in the same process is handed
them as they are (`local`).

Invariants:
- whatever shards are alive, a retry is cut into the same entries under the same keys;
- one bad event refuses its whole request, before anything is sent;
- a request is acknowledged only when all of its entries are.
"""
