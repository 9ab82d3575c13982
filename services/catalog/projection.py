"""The projection of the record in Valkey, written from the feed. Any replica may write it, and any may be killed.

Each write is a function call that tests the token and the position in the feed, and moves the position: of two writers
one finds the position elsewhere, and writes nothing. Without the token everything is built anew.
"""

import asyncio
import json
import time
import uuid
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import redis.asyncio as valkey
import structlog
from redis.exceptions import RedisError, ResponseError

from libs.stores.schema import Cluster
from services.catalog import keys
from services.catalog.feed import Change, Head, read_changes, read_head
from services.catalog.layout import read_layouts
from services.catalog.list_record import read_all_entries
from services.catalog.projected import Projected, make_token, project
from services.catalog.projection_library import NAME, SOURCE
from services.catalog.resource_reading import read_all_projected, read_projected
from services.catalog.settings import ProjectionSettings
from tally.contract.errors import NotEnabled, NotReady, Unavailable

_LOGGER = structlog.get_logger(__name__)

_SNAPSHOT = {"isolation": "repeatable_read", "readonly": True}
_SCAN = 1_000
_ENTRIES = 2_000
_LARGEST_CHANGE = 10_000
"""More than the rows of one change: of a batch of puts, or of a piece of a delete with the lists that it leaves."""
_ROOM_SECONDS = 5.0
_OTHER_SECONDS = 5.0
_PATTERNS = tuple(f"{prefix}*" for prefix in keys.PREFIXES)


class State(StrEnum):
    """How the projection is, as `tally catalog status` prints it."""

    OFF = "off"
    STARTING = "starting"
    COMPLETE = "complete"
    BUILDING = "being built"
    FULL = "stopped: Valkey is too full"
    OTHER = "not written: this Valkey holds the projection of another cluster"
    AWAY = "Valkey is unreachable"


class Projection:
    """Writes the projection."""

    def __init__(
        self, client: "valkey.Redis", pool: Any, cluster: Cluster, settings: ProjectionSettings
    ) -> None:
        self.state = State.STARTING if settings.enabled else State.OFF
        self.position = 0
        self._client: Any = client
        self._pool = pool
        self._cluster = cluster
        self._settings = settings
        self._builder = str(uuid.uuid4())
        self._is_loaded = False
        self._looked_for_room_at = -_ROOM_SECONDS

    async def turn(self) -> float | None:
        """Write what has changed. Raises NotReady for a Valkey that cannot be used, and what is in AWAY."""
        try:
            if not self._is_loaded:
                await self._load_library()
            now = time.monotonic()
            if self.state is State.FULL or now >= self._looked_for_room_at + _ROOM_SECONDS:
                self._looked_for_room_at = now
                if not await self._has_room():
                    self.state = State.FULL
                    return _OTHER_SECONDS
            return await self._follow()
        except ResponseError as error:
            if "unction not found" in str(error):
                self._is_loaded = False  # FUNCTION FLUSH, or a Valkey that was started anew
                return 0.0
            raise
        except Exception:
            self.state = State.AWAY
            raise

    async def forget(self) -> None:
        """Have everything rebuilt, by any replica. Raises Unavailable and NotEnabled."""
        if not self._settings.enabled:
            raise NotEnabled("this replica writes no projection: TALLY_CATALOG__PROJECTION__ENABLED is false")
        try:
            answer = await self._call("catalog_forget", str(self._cluster.cluster_id))
        except (RedisError, OSError) as error:
            raise Unavailable(f"Valkey cannot be asked now: {error}; ask again") from error
        if answer != b"done":
            raise NotEnabled("this Valkey holds the projection of another cluster, which is left alone")
        self.state = State.BUILDING

    async def list_keys(self, resource_id: str) -> list[tuple[str, str]]:
        """The keys that hold something of a resource, each with what it holds. Raises Unavailable."""
        hash_key, tracker = keys.resource_key(resource_id), keys.tracker_key(resource_id)
        try:
            fields = await self._client.hgetall(hash_key)
            members = sorted(key.decode() for key in await self._client.smembers(tracker))
            found = []
            if fields:
                text = " ".join(f"{name.decode()}={value.decode()}" for name, value in fields.items())
                found.append((hash_key, text))
            if members:
                found.append((tracker, " ".join(members)))
            for key in members:
                if key.startswith(keys.SORTS):
                    score = await self._client.zscore(key, resource_id)
                    found.append((key, f"score {score}"))
                else:
                    is_in = await self._client.sismember(key, resource_id)
                    found.append((key, "member" if is_in else "not a member: the projection is damaged"))
        except (RedisError, OSError) as error:
            raise Unavailable(f"Valkey cannot be asked now: {error}; ask again") from error
        return found

    async def _load_library(self) -> None:
        info = await self._client.info("cluster")
        if info.get("cluster_enabled"):
            raise NotReady(
                "TALLY_VALKEY__URL leads to a Valkey in cluster mode, where sets of one catalog lie in several places. "
                "Use one without, or set TALLY_CATALOG__PROJECTION__ENABLED=false"
            )
        await self._client.function_load(SOURCE, replace=True)
        self._is_loaded = True
        _LOGGER.info("catalog functions loaded into Valkey", library=NAME)

    async def _has_room(self) -> bool:
        info = await self._client.info("memory")
        most = int(info.get("maxmemory", 0))
        return not most or int(info["used_memory"]) <= most * self._settings.max_memory_share

    async def _follow(self) -> float | None:
        found, position = await self._client.mget(keys.TOKEN, keys.POSITION)
        head = await read_head(self._pool)
        if not head.change:
            return None  # an empty catalog needs no projection
        token = make_token(self._cluster, head.change, self._settings.parts)
        if found is not None and found.decode() == token and position == str(head.change).encode():
            self.state, self.position = State.COMPLETE, head.change
            return None
        async with self._pool.acquire() as connection, connection.transaction(**_SNAPSHOT):
            head = await read_head(connection)
            token = make_token(self._cluster, head.change, self._settings.parts)
            if found is None or found.decode() != token or position is None:
                return await self._build(connection, head, token)
            self.position = int(position)
            if self.position < head.kept_after or self.position > head.change:
                return await self._build(connection, head, token)
            self.state = State.COMPLETE
            changes = await read_changes(connection, self.position, self._settings.batch_resources)
            if not changes:
                return None
            until = head.change
            if len(changes) == self._settings.batch_resources:
                # The last change may be cut off, so this batch ends before it, or it is the whole batch.
                until = changes[-1].change - 1
                if changes[0].change > until:
                    changes = await read_changes(connection, self.position, _LARGEST_CHANGE)
                    until = changes[0].change
            touched = {
                change.subject
                for change in changes
                if change.change <= until and change.kind in ("put", "deleted")
            }
            items = await self._items_of(connection, sorted(touched))
            lists = self._lists_of([change for change in changes if change.change <= until])
        answer = await self._call("catalog_apply", token, self.position, until, items, lists)
        if answer == b"done":
            self.position = until
        return 0.0

    async def _items_of(self, connection: Any, ids: Sequence[str]) -> str:
        rows = await read_projected(connection, ids)
        layouts = await read_layouts(connection)
        items = [project(row, layouts, self._settings.parts) for row in rows.values()]
        items += [Projected(each) for each in ids if each not in rows]
        return json.dumps([each.to_json() for each in items])

    def _lists_of(self, changes: Sequence[Change]) -> str:
        """What has left and entered lists, in the order of changes."""
        if "lists" not in self._settings.parts:
            return "[]"
        return json.dumps(
            [
                {
                    "key": keys.list_key(change.subject),
                    "removed": change.removed,
                    "added": change.added,
                    "scores": [str(int(score or 0)) for score in change.scores],
                }
                for change in changes
                if change.kind == "list"
            ]
        )

    # Building

    async def _build(self, connection: Any, head: Head, token: str) -> float:
        """Write everything, from the snapshot of `connection`; ends early for another writer, or a wiped Valkey."""
        answer = await self._call("catalog_begin", token, self._builder)
        if answer != b"done":
            self.state = State.OTHER
            return _OTHER_SECONDS
        self.state = State.BUILDING
        if not await self._clear():
            return _OTHER_SECONDS
        layouts = await read_layouts(connection)
        after = ""
        while rows := await read_all_projected(connection, after, self._settings.batch_resources):
            items = json.dumps([project(row, layouts, self._settings.parts).to_json() for row in rows])
            if await self._call("catalog_build", self._builder, items, "[]") != b"done":
                return _OTHER_SECONDS
            if not await self._has_room():
                self.state = State.FULL
                return _OTHER_SECONDS
            after = rows[-1]["id"]
            await asyncio.sleep(0)
        if "lists" in self._settings.parts and not await self._build_lists(connection):
            return _OTHER_SECONDS
        if await self._call("catalog_finish", self._builder, token, head.change) == b"done":
            self.state, self.position = State.COMPLETE, head.change
            _LOGGER.info("catalog projected into Valkey", change=head.change)
        return 0.0

    async def _clear(self) -> bool:
        """Remove all keys of the projection. False: another writer has begun."""
        for pattern in _PATTERNS:
            cursor = 0
            while True:
                cursor, found = await self._client.scan(cursor, match=pattern, count=_SCAN)
                if found and await self._call("catalog_clear", self._builder, *found) != b"done":
                    return False
                if not cursor:
                    break
        return True

    async def _build_lists(self, connection: Any) -> bool:
        """False: another writer has begun, or there is no room."""
        place = (0, "")
        while rows := await read_all_entries(connection, place, _ENTRIES):
            deltas: dict[str, dict[str, Any]] = {}
            for row in rows:
                key = keys.list_key(row["list"])
                delta = deltas.setdefault(key, {"key": key, "removed": [], "added": [], "scores": []})
                delta["added"].append(row["id"])
                delta["scores"].append(str(row["score"]))
            text = json.dumps(list(deltas.values()))
            if await self._call("catalog_build", self._builder, "[]", text) != b"done":
                return False
            if not await self._has_room():
                self.state = State.FULL
                return False
            place = (rows[-1]["number"], rows[-1]["id"])
        return True

    async def _call(self, function: str, *arguments: Any) -> bytes:
        answer: bytes = await self._client.fcall(function, 0, *arguments)
        return answer
