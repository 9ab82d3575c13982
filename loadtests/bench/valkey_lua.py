"""Peer (b): Valkey, one script call a request, which drops a repeated request id and adds the pairs.

The client sums the pairs first and sends them as one packed argument: a thousand arguments of their own cost the client
five times as much. Each caller has a connection to itself, so one fsync serves all that were waiting.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgpack  # type: ignore[import-untyped]  # it ships no types
from redis.asyncio import BlockingConnectionPool, Redis

from loadtests.bench.contender import Store
from loadtests.bench.counter import CountedByClient
from loadtests.bench.events import Pairs
from loadtests.bench.oracle import Counts
from loadtests.bench.valkey import open_durable_valkey, read_hashes

LACKS = ("time windows", "a recount: raw events are not kept", "values", "more data than memory")
PREFIX = "v:"
EXPIRY_SECONDS = 24 * 3600
_CONNECTIONS = 32
_SCRIPT = """
if not redis.call('SET', KEYS[1], '', 'NX', 'EX', ARGV[1]) then return 0 end
local call, prefix = redis.call, ARGV[2]
local videos, types, counts = cmsgpack.unpack(ARGV[3])
for i = 1, #videos do call('HINCRBY', prefix .. videos[i], types[i], counts[i]) end
return 1
"""


class ValkeyCounter:
    """Counts pairs under a request id, once."""

    def __init__(self, client: Redis, script: str) -> None:
        self._client = client
        self._script = script

    async def add(self, request_id: str, pairs: Pairs) -> bool:
        """False when the id was there before, and nothing was added."""
        packed = (
            msgpack.packb(pairs.video_ids) + msgpack.packb(pairs.event_types) + msgpack.packb(pairs.counts)
        )
        return bool(
            await self._client.evalsha(self._script, 1, f"r:{request_id}", EXPIRY_SECONDS, PREFIX, packed)
        )

    async def counts(self) -> Counts:
        """Everything."""
        return await read_hashes(self._client, PREFIX)


@asynccontextmanager
async def open_counter(url: str) -> AsyncIterator[ValkeyCounter]:
    """Connect, and load the script."""
    pool = BlockingConnectionPool.from_url(url, max_connections=_CONNECTIONS, timeout=None)
    client = Redis(connection_pool=pool)
    try:
        yield ValkeyCounter(client, await client.script_load(_SCRIPT))
    finally:
        await client.aclose()
        await pool.aclose()


@asynccontextmanager
async def open_valkey_lua(folder: Path) -> AsyncIterator[Store]:
    """Run Valkey and connect to it."""
    async with open_durable_valkey(folder / "valkey") as url, open_counter(url) as counter:
        yield CountedByClient(counter)
