"""The entries of lists on their way into a find: from Valkey, else from Postgres.

A list in Valkey may be a second old: it is taken where the projection holds all that this replica showed a second ago,
and the change that the caller has seen. Nothing about rights is read here.
"""

from collections.abc import Callable, Sequence
from typing import Any

import redis.asyncio as valkey

from libs.stores.postgres import reaching_postgres
from libs.stores.schema import Cluster
from services.catalog import keys
from services.catalog.contents import VALKEY_AWAY
from services.catalog.finding import Lists
from services.catalog.ids import is_id, pack
from services.catalog.list_record import read_lists
from services.catalog.projected import make_token
from services.catalog.settings import Part
from tally.contract.breaker import Breaker

AGE_SECONDS = 1.0


class ListReader:
    """Reads lists."""

    def __init__(
        self,
        pool: Any,
        client: "valkey.Redis",
        breaker: Breaker,
        cluster: Cluster,
        parts: Sequence[Part],
        change_before: Callable[[float], int],
    ) -> None:
        """`change_before`: the newest change that was visible some seconds ago. `parts`: what is projected."""
        self._pool = pool
        self._client: Any = client
        self._breaker = breaker
        self._cluster = cluster
        self._parts = parts
        self._change_before = change_before

    async def read(self, names: Sequence[str], min_change: int) -> Lists:
        """The scores of the entries of lists, by key and packed id. Raises Unavailable."""
        if not names:
            return {}
        at_least = max(min_change, self._change_before(AGE_SECONDS))
        found = await self._read_projected(names, at_least)
        if found is None:
            with reaching_postgres():
                stored = await read_lists(self._pool, names)
            found = {key: {pack(each): score for each, score in of.items()} for key, of in stored.items()}
        return found

    async def _read_projected(self, names: Sequence[str], at_least: int) -> Lists | None:
        """None if the projection is incomplete or too old, or Valkey is unreachable."""
        if "lists" not in self._parts:
            return None
        token = make_token(self._cluster, at_least, self._parts).encode()

        async def ask() -> Any:
            pipeline = self._client.pipeline(transaction=True)
            pipeline.mget(keys.TOKEN, keys.POSITION)
            for each in names:
                pipeline.zrange(keys.list_key(each), 0, -1, withscores=True)
            return await pipeline.execute()

        try:
            (held, position), *entries = await self._breaker.call(ask)
        except VALKEY_AWAY:
            return None
        if held != token or position is None or int(position) < at_least:
            return None
        return {
            key: {pack(each.decode()): int(score) for each, score in of if is_id(each.decode())}
            for key, of in zip(names, entries, strict=True)
        }
