"""The entries of lists on their way into a find: from Valkey, else from Postgres.

A list in Valkey may be a second old: it is taken where the projection holds all that this replica showed a second ago,
and the change that the caller has seen. Nothing about rights is read here.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
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
from tally.contract.errors import ListsTooLarge

AGE_SECONDS = 1.0
_LARGE = 2_000
"""Entries beyond which work on lists is done in a thread: it would hold the event loop for milliseconds."""


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
        max_entries: int,
    ) -> None:
        """`change_before`: the newest change that was shown so many seconds ago. `parts`: what is projected.

        `max_entries`: of all lists that are read at once.
        """
        self._pool = pool
        self._client: Any = client
        self._breaker = breaker
        self._cluster = cluster
        self._parts = parts
        self._change_before = change_before
        self._max_entries = max_entries

    async def read(self, names: Sequence[str], min_change: int) -> Lists:
        """The scores of the entries of lists, by key and packed id. Raises ListsTooLarge and Unavailable."""
        if not names:
            return {}
        at_least = max(min_change, self._change_before(AGE_SECONDS))
        found = await self._read_projected(names, at_least)
        if found is None:
            with reaching_postgres():
                stored = await read_lists(self._pool, names, self._max_entries + 1)
            size = sum(map(len, stored.values()))
            self._check_size(size)
            found = await _work(size, _pack_stored, stored)
        return found

    def _check_size(self, size: int) -> None:
        if size > self._max_entries:
            raise ListsTooLarge(
                f"the lists of this find have more than {self._max_entries:,} entries together, which is what one find "
                "may read. Name fewer or shorter lists, or raise TALLY_CATALOG__LISTS__MAX_READ_ENTRIES"
            )

    async def _read_projected(self, names: Sequence[str], at_least: int) -> Lists | None:
        """None if the projection is incomplete or too old, or Valkey is unreachable."""
        if "lists" not in self._parts:
            return None
        token = make_token(self._cluster, at_least, self._parts).encode()

        async def ask(*, sizes: bool) -> Any:
            pipeline = self._client.pipeline(transaction=True)
            pipeline.mget(keys.TOKEN, keys.POSITION)
            for each in map(keys.list_key, names):
                if sizes:
                    pipeline.zcard(each)
                else:
                    pipeline.zrange(each, 0, -1, withscores=True)
            return await pipeline.execute()

        found: list[Any] = []
        size = 0
        for sizes in (True, False):  # their sizes before their entries
            try:
                (held, position), *found = await self._breaker.call(partial(ask, sizes=sizes))
            except VALKEY_AWAY:
                return None
            if held != token or position is None or int(position) < at_least:
                return None
            if sizes:
                size = sum(found)
                self._check_size(size)
        return await _work(size, _pack_projected, names, found)


def is_large(lists: Lists) -> bool:
    """Whether work on these lists belongs into a thread."""
    return sum(map(len, lists.values())) > _LARGE


async def _work(size: int, pack_all: Callable[..., Lists], *of: Any) -> Lists:
    return await asyncio.to_thread(pack_all, *of) if size > _LARGE else pack_all(*of)


def _pack_stored(stored: Mapping[str, Mapping[str, int]]) -> Lists:
    return {key: {pack(each): score for each, score in of.items()} for key, of in stored.items()}


def _pack_projected(names: Sequence[str], entries: Sequence[Sequence[tuple[bytes, float]]]) -> Lists:
    return {
        key: {pack(each.decode()): int(score) for each, score in of if is_id(each.decode())}
        for key, of in zip(names, entries, strict=True)
    }
