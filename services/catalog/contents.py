"""Details on their way into a page: from the process, else from Valkey, else from Postgres.

Details are taken only with the version that the view has, or a newer one, so they are never older than the view.
Nothing about rights is read here.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import redis.asyncio as valkey
from redis.exceptions import RedisError

from libs.stores.postgres import reaching_postgres
from libs.stores.schema import Cluster
from services.catalog import keys
from services.catalog.projected import make_token
from services.catalog.resource_reading import read_details
from services.catalog.settings import Part
from tally.contract.breaker import Breaker
from tally.contract.errors import Unavailable

VALKEY_AWAY = (RedisError, OSError, TimeoutError, Unavailable)
_OVERHEAD_BYTES = 200


class Contents:
    """Reads details, with a bounded cache in the process."""

    def __init__(
        self,
        pool: Any,
        client: "valkey.Redis",
        breaker: Breaker,
        cluster: Cluster,
        parts: Sequence[Part],
        cache_bytes: int,
    ) -> None:
        """`parts`: what is projected."""
        self._pool = pool
        self._client: Any = client
        self._breaker = breaker
        self._cluster = cluster
        self._parts = parts
        self._most_bytes = cache_bytes
        self._bytes = 0
        self._cache: OrderedDict[str, tuple[int, bytes]] = OrderedDict()

    async def read(self, versions: Mapping[str, int], change: int) -> dict[str, bytes]:
        """The details of resources, of these versions or newer; those that are gone are left out.

        `change`: that of the view. Raises Unavailable.
        """
        found: dict[str, bytes] = {}
        for resource_id, version in versions.items():
            held = self._cache.get(resource_id)
            if held is not None and held[0] >= version:
                self._cache.move_to_end(resource_id)
                found[resource_id] = held[1]
        if missing := [each for each in versions if each not in found]:
            for resource_id, (version, details) in (await self._read_projected(missing, change)).items():
                if version >= versions[resource_id]:
                    found[resource_id] = details
                    self._keep(resource_id, version, details)
        if missing := [each for each in versions if each not in found]:
            with reaching_postgres():
                stored = await read_details(self._pool, missing)
            for resource_id, (details, version) in stored.items():
                found[resource_id] = details
                self._keep(resource_id, version, details)
        return found

    async def _read_projected(self, ids: Sequence[str], change: int) -> dict[str, tuple[int, bytes]]:
        """The details in Valkey, with versions; none if the projection is incomplete or Valkey is unreachable."""
        if "details" not in self._parts:
            return {}
        token = make_token(self._cluster, change, self._parts).encode()

        async def ask() -> Any:
            pipeline = self._client.pipeline(transaction=True)
            pipeline.get(keys.TOKEN)
            for each in ids:
                pipeline.hmget(keys.resource_key(each), "version", "details")
            return await pipeline.execute()

        try:
            found, *rows = await self._breaker.call(ask)
        except VALKEY_AWAY:
            return {}
        if found != token:
            return {}
        return {
            resource_id: (int(version), details)
            for resource_id, (version, details) in zip(ids, rows, strict=True)
            if version is not None and details is not None
        }

    def _keep(self, resource_id: str, version: int, details: bytes) -> None:
        old = self._cache.pop(resource_id, None)
        if old is not None:
            self._bytes -= len(old[1]) + _OVERHEAD_BYTES
        self._cache[resource_id] = (version, details)
        self._bytes += len(details) + _OVERHEAD_BYTES
        while self._bytes > self._most_bytes:
            _, (_, gone) = self._cache.popitem(last=False)
            self._bytes -= len(gone) + _OVERHEAD_BYTES
