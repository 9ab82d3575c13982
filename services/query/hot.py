"""Totals in Valkey: absolute values, set only if newer, gone soon after they stop being refreshed.

A lost fill, a late one or a wipe costs latency and nothing else.
"""

import json
from typing import Any

import redis.asyncio as valkey
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from libs.domain.cells import Cell
from libs.domain.clock import Clock
from libs.domain.errors import NotReady, Unavailable
from libs.rpc.breaker import Breaker
from libs.stores.schema import Cluster
from services.query.settings import HotSettings
from services.query.warm import Reading

# A value begins with its version, 40 digits: what it is as of, and its count. Digits compare like numbers.
_SET_IF_NEWER = """
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 1, 40) > string.sub(ARGV[1], 1, 40) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1"""
_VERSION_DIGITS = 20

AWAY = (RedisError, OSError, TimeoutError, Unavailable)


class Hot:
    """The totals of one cluster and epoch. Never raises because Valkey is away: it has nothing then."""

    def __init__(
        self, client: "valkey.Redis", breaker: Breaker, cluster: Cluster, settings: HotSettings, clock: Clock
    ) -> None:
        self._client = client
        self._breaker = breaker
        self._prefix = f"tally:{cluster.cluster_id}:{cluster.epoch}:total"
        self._settings = settings
        self._clock = clock
        self._set_if_newer = client.register_script(_SET_IF_NEWER)

    async def get(self, video_id: str, event_type: str) -> Reading | None:
        """The total that is held, or None."""
        key = self._key(video_id, event_type)

        async def ask() -> Any:
            return await self._client.get(key)

        try:
            held = await self._breaker.call(ask)
        except AWAY:
            return None
        return None if held is None else _read(held)

    async def put(self, video_id: str, event_type: str, reading: Reading) -> None:
        """Offer a total, which is taken unless a newer one is held."""
        age_seconds = (self._clock.now_us() - reading.as_of_us) / 1_000_000
        left_ms = int((self._settings.max_age_seconds - age_seconds) * 1000)
        if left_ms <= 0:
            return
        key, value = self._key(video_id, event_type), _write(reading)

        async def offer() -> Any:
            return await self._set_if_newer(keys=[key], args=[value, left_ms])

        try:
            await self._breaker.call(offer)
        except AWAY:
            return

    def _key(self, video_id: str, event_type: str) -> str:
        return f"{self._prefix}:{event_type}:{video_id}"


def _write(reading: Reading) -> str:
    cell = reading.cell
    version = f"{reading.as_of_us:0{_VERSION_DIGITS}d}{cell.count:0{_VERSION_DIGITS}d}"
    return version + json.dumps([cell.value_count, cell.sum, cell.min, cell.max, cell.m2])


def _read(held: bytes) -> Reading:
    as_of_us, count = int(held[:_VERSION_DIGITS]), int(held[_VERSION_DIGITS : 2 * _VERSION_DIGITS])
    return Reading(Cell(count, *json.loads(held[2 * _VERSION_DIGITS :])), as_of_us)


def open_client(url: str, settings: HotSettings) -> "valkey.Redis":
    """A client that connects when it is first used, and never waits longer than its time-out.

    Raises NotReady when `url` is none that a client can use.
    """
    try:
        return valkey.from_url(
            url,
            socket_timeout=settings.timeout_seconds,
            socket_connect_timeout=settings.timeout_seconds,
            retry=Retry(NoBackoff(), 0),  # Postgres has the answer too
        )
    except ValueError as error:
        raise NotReady(f"TALLY_VALKEY__URL cannot be used: {error}") from error
