"""Totals in Valkey: absolute values, set only if newer, expired soon after the last refresh.

A lost fill, a late one or a wipe costs latency and nothing else. No single clock can keep a total alive: it expires at
a time of Valkey's clock that was fixed when the look-up began, so that a fill which is executed late sets nothing; and
a reader compares its `as_of` with Postgres's clock.
"""

import json
from dataclasses import dataclass
from typing import Any

import redis.asyncio as valkey
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from libs.domain.cells import Cell
from libs.domain.clock import Clock
from libs.stores.schema import Cluster
from services.query.settings import HotSettings
from services.query.warm import Reading
from tally.contract.breaker import Breaker
from tally.contract.errors import NotReady, Unavailable

# A value begins with its version, 40 digits: what it is as of, and its count. Digits compare like numbers.
_SET_IF_NEWER = """
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 1, 40) > string.sub(ARGV[1], 1, 40) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PXAT', ARGV[2])
return 1"""
_GET = """
local time = redis.call('TIME')
return {redis.call('GET', KEYS[1]), time[1] * 1000 + math.floor(time[2] / 1000)}"""
_VERSION_DIGITS = 20

_MOST_AHEAD_SECONDS = 1.0
"""`as_of` may be so much ahead of a service's reading of Postgres's clock, which is never ahead itself."""

AWAY = (RedisError, OSError, TimeoutError, Unavailable)


@dataclass(frozen=True, slots=True)
class Held:
    """What Valkey answered to a look-up."""

    reading: Reading | None = None
    asked_at_ms: int | None = None
    """by Valkey's clock; None: Valkey is unreachable"""
    asked_at_us: int = 0
    """by Postgres's clock"""


class Hot:
    """The totals of one cluster and epoch. If Valkey is unreachable it returns nothing, and does not raise."""

    def __init__(
        self, client: "valkey.Redis", breaker: Breaker, cluster: Cluster, settings: HotSettings, clock: Clock
    ) -> None:
        self._client = client
        self._breaker = breaker
        self._prefix = f"tally:{cluster.cluster_id}:{cluster.epoch}:total"
        self._settings = settings
        self._clock = clock
        self._set_if_newer = client.register_script(_SET_IF_NEWER)
        self._get = client.register_script(_GET)

    async def get(self, video_id: str, event_type: str) -> Held:
        """The total that is held, unless its age is beyond what may be held. Ask before looking it up."""
        key, asked_at_us = self._key(video_id, event_type), self._clock.now_us()

        async def ask() -> Any:
            return await self._get(keys=[key])

        try:
            value, now_ms = await self._breaker.call(ask)
        except AWAY:
            return Held()
        reading = None if value is None else _read(value)
        if reading is not None and not self._is_fresh(reading):
            reading = None
        return Held(reading, now_ms, asked_at_us)

    async def put(self, video_id: str, event_type: str, reading: Reading, held: Held) -> None:
        """Offer a total, which is taken unless a newer one is held. `held`: from the `get` before it was looked up."""
        if held.asked_at_ms is None or not self._is_fresh(reading):
            return
        age_ms = max(0, held.asked_at_us - reading.as_of_us) // 1000
        expires_at_ms = held.asked_at_ms + int(self._settings.max_age_seconds * 1000) - age_ms
        key, value = self._key(video_id, event_type), _write(reading)

        async def offer() -> Any:
            return await self._set_if_newer(keys=[key], args=[value, expires_at_ms])

        try:
            await self._breaker.call(offer)
        except AWAY:
            return

    def _is_fresh(self, reading: Reading) -> bool:
        age_seconds = (self._clock.now_us() - reading.as_of_us) / 1_000_000
        return -_MOST_AHEAD_SECONDS <= age_seconds < self._settings.max_age_seconds

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
    """A client that connects when it is first used, and never waits longer than its timeout.

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
