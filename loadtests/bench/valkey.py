"""A Valkey that keeps what it acknowledged: every write is on disk before its answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from libs.domain.errors import NotReady
from libs.embedded.valkey import open_valkey
from loadtests.bench.oracle import Counts

_DURABLE = {
    "maxmemory-policy": "noeviction",
    "maxmemory": "0",
    "appendfsync": "always",
    "appendonly": "yes",
}
_READY_SECONDS = 30.0
_SCAN_KEYS = 5_000


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
    """Every hash whose key begins with `prefix`: a video's, its fields the event types."""
    counts = Counts([], [], [])
    cursor = 0
    while True:
        cursor, keys = await client.scan(cursor, match=f"{prefix}*", count=_SCAN_KEYS)
        pipeline = client.pipeline(transaction=False)
        for key in keys:
            pipeline.hgetall(key)
        for key, fields in zip(keys, await pipeline.execute(), strict=True):
            for event_type, count in fields.items():
                counts.video_ids.append(key.decode().removeprefix(prefix))
                counts.event_types.append(event_type.decode())
                counts.counts.append(int(count))
        if cursor == 0:
            return counts
