"""A Valkey that keeps what it acknowledged: every write is on disk before its answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]  # it ships no types
from redis.asyncio import Redis

from libs.embedded.valkey import open_valkey
from loadtests.bench.oracle import Counts
from tally.contract.errors import NotReady

_DURABLE = {
    "maxmemory-policy": "noeviction",
    "maxmemory": "0",
    "appendfsync": "always",
    "appendonly": "yes",
}
_READY_SECONDS = 30.0
_SCAN_KEYS = 5_000
# Packed there and not here: parsing the answers to a HGETALL for each of many videos takes this client a minute.
_READ = """
local found, hashes = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3]), {}
for i, key in ipairs(found[2]) do hashes[i] = {key, redis.call('HGETALL', key)} end
return {found[1], cmsgpack.pack(hashes)}
"""


@asynccontextmanager
async def open_durable_valkey(folder: Path) -> AsyncIterator[str]:
    """Run Valkey with `appendonly yes` and `appendfsync always`; yields its unix:// URL."""
    async with open_valkey(folder) as url:
        client = Redis.from_url(url)
        try:
            for name, value in _DURABLE.items():
                await client.config_set(name, value)
            await _wait_until_durable(client)
        finally:
            await client.aclose()
        yield url


async def _wait_until_durable(client: Any) -> None:
    """Switched on while it runs, the append-only file begins with a rewrite in the background."""
    async with asyncio.timeout(_READY_SECONDS):
        while True:
            state = await client.info("persistence")
            if state["aof_enabled"] and not state["aof_rewrite_in_progress"]:
                break
            await asyncio.sleep(0.05)
    settings = await client.config_get("append*")
    if (settings["appendonly"], settings["appendfsync"]) != ("yes", "always"):
        raise NotReady(f"Valkey does not write through: {settings}")


async def read_hashes(client: Any, prefix: str) -> Counts:
    """Every hash whose key begins with `prefix`: a video's, its fields the event types. No key may come or go."""
    read = client.register_script(_READ)
    counts = Counts([], [], [])
    cursor, is_through = b"0", False
    while not is_through:
        cursor, packed = await read(args=[cursor, f"{prefix}*", _SCAN_KEYS])
        is_through = cursor == b"0"
        for key, fields in msgpack.unpackb(packed):
            counts.video_ids.extend([key.removeprefix(prefix)] * (len(fields) // 2))
            counts.event_types.extend(fields[::2])
            counts.counts.extend(map(int, fields[1::2]))
    return counts
