"""Compares the projection in Valkey with the record, a piece at a time, while both change.

Rows are read in a snapshot, then keys at some later position of the projection. What has changed between the two is
read again; everything else must be equal.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis.asyncio as valkey
from redis.exceptions import RedisError

from libs.stores.schema import Cluster
from services.catalog import keys
from services.catalog.feed import read_head
from services.catalog.ids import is_id
from services.catalog.layout import read_layouts
from services.catalog.list_record import read_list_names, read_lists
from services.catalog.projected import Projected, make_token, project
from services.catalog.resource_reading import read_all_projected, read_projected
from services.catalog.settings import ProjectionSettings
from tally.contract.errors import InvalidRequest, Unavailable, Violation

_SNAPSHOT = {"isolation": "repeatable_read", "readonly": True}
_CHANGED = """
select distinct subject from catalog.change
where change > $1 and change <= $2 and kind in ('put', 'deleted') and subject = any($3::text[])"""
_CHANGED_LISTS = """
select distinct subject from catalog.change
where change > $1 and change <= $2 and kind = 'list' and subject = any($3::text[])"""
_LISTS_AT_ONCE = 100
_RESOURCES = "resources:"
_LISTS = "lists:"
_KEYS = "keys:"
_TRIES = 20
_WAIT_SECONDS = 0.25
_SCAN = 100
_MEMBERS = 1_000
_MOST_PROBLEMS = 100


@dataclass(slots=True)
class Verified:
    """What a piece has shown."""

    resources: int = 0
    keys: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)
    """keys, each with what is wrong"""
    next_cursor: str = ""
    """empty: all is done"""


@dataclass(frozen=True, slots=True)
class _Held:
    """The keys in Valkey of a resource."""

    fields: Mapping[bytes, bytes]
    tracker: frozenset[str]
    missing: Sequence[str]
    """expected memberships that are not there"""


class Verification:
    """Verifies pieces."""

    def __init__(
        self, client: "valkey.Redis", pool: Any, cluster: Cluster, settings: ProjectionSettings
    ) -> None:
        self._client: Any = client
        self._pool = pool
        self._cluster = cluster
        self._settings = settings

    async def verify(self, cursor: str) -> Verified:
        """The piece behind a cursor: the empty one begins. Raises InvalidRequest and Unavailable."""
        try:
            if not cursor or cursor.startswith(_RESOURCES):
                return await self._verify_resources(cursor.removeprefix(_RESOURCES))
            if cursor.startswith(_LISTS):
                return await self._verify_lists(cursor.removeprefix(_LISTS))
            place = cursor.removeprefix(_KEYS)
            if cursor.startswith(_KEYS) and place.isdecimal():
                return await self._verify_keys(int(place))
        except (RedisError, OSError) as error:
            raise Unavailable(f"Valkey cannot be asked now: {error}; send the same again") from error
        raise InvalidRequest(
            [Violation("cursor", "must be the `next_cursor` of the answer before, or empty")]
        )

    # From the record: what must be in Valkey

    async def _verify_resources(self, after: str) -> Verified:
        found = Verified()
        async with self._pool.acquire() as connection, connection.transaction(**_SNAPSHOT):
            rows = await read_all_projected(connection, after, self._settings.batch_resources)
        ids = [row["id"] for row in rows]
        found.problems = (await self._compare(ids))[:_MOST_PROBLEMS]
        found.resources = len(ids)
        found.next_cursor = f"{_RESOURCES}{ids[-1]}" if ids else _LISTS
        return found

    async def _compare(self, ids: Sequence[str]) -> list[tuple[str, str]]:
        """The differences in the keys of these resources, whether they are stored or not."""
        problems: list[tuple[str, str]] = []
        open_ = list(ids)
        for _ in range(_TRIES):
            if not open_:
                return problems
            async with self._pool.acquire() as connection, connection.transaction(**_SNAPSHOT):
                head = await read_head(connection)
                rows = await read_projected(connection, open_)
                layouts = await read_layouts(connection)
            wanted = {
                each: project(rows[each], layouts, self._settings.parts) if each in rows else Projected(each)
                for each in open_
            }
            position, held = await self._read(head.change, wanted)
            if position >= head.change:
                moved = await self._moved_between(head.change, position, open_)
                for each in open_:
                    if each not in moved:
                        problems += _differences(wanted[each], held[each])
                open_ = sorted(moved)
            else:
                await asyncio.sleep(_WAIT_SECONDS)
        raise _lags()

    async def _read(self, change: int, wanted: Mapping[str, Projected]) -> tuple[int, dict[str, _Held]]:
        """The position, and what Valkey holds at it. Raises Unavailable without the token."""
        pipeline = self._client.pipeline(transaction=True)
        pipeline.mget(keys.TOKEN, keys.POSITION)
        for resource_id, each in wanted.items():
            pipeline.hgetall(keys.resource_key(resource_id))
            pipeline.smembers(keys.tracker_key(resource_id))
            for key in each.keys:
                pipeline.sismember(key, resource_id)
            for name in each.sorts:
                pipeline.zscore(keys.sort_key(name), resource_id)
        state, *answers = await pipeline.execute()
        held = {}
        rest = iter(answers)
        for resource_id, each in wanted.items():
            fields, tracker = next(rest), next(rest)
            missing = [key for key in each.keys if not next(rest)]
            for name, score in each.sorts.items():
                value = next(rest)
                if value is None or value != float(score):
                    missing.append(keys.sort_key(name))
            held[resource_id] = _Held(fields, frozenset(key.decode() for key in tracker), missing)
        return self._position_of(state, change), held

    async def _verify_lists(self, after: str) -> Verified:
        found = Verified()
        names = await read_list_names(self._pool, after, _LISTS_AT_ONCE) if self._has_lists else []
        found.problems = (await self._compare_lists(names))[:_MOST_PROBLEMS]
        found.next_cursor = f"{_LISTS}{names[-1]}" if names else f"{_KEYS}0"
        return found

    @property
    def _has_lists(self) -> bool:
        return "lists" in self._settings.parts

    async def _compare_lists(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """The differences in these lists, whether they exist or not."""
        problems: list[tuple[str, str]] = []
        open_ = list(names)
        for _ in range(_TRIES):
            if not open_:
                return problems
            async with self._pool.acquire() as connection, connection.transaction(**_SNAPSHOT):
                head = await read_head(connection)
                wanted = await read_lists(connection, open_)
            pipeline = self._client.pipeline(transaction=True)
            pipeline.mget(keys.TOKEN, keys.POSITION)
            for each in open_:
                pipeline.zrange(keys.list_key(each), 0, -1, withscores=True)
            state, *answers = await pipeline.execute()
            position = self._position_of(state, head.change)
            if position >= head.change:
                rows = await self._pool.fetch(_CHANGED_LISTS, head.change, position, open_)
                moved = {row["subject"] for row in rows}
                for each, answer in zip(open_, answers, strict=True):
                    held = {member.decode(): int(score) for member, score in answer}
                    expected = wanted[each] if self._has_lists else {}
                    if each not in moved and held != expected:
                        wrong = sorted(member for member, _ in held.items() ^ expected.items())
                        what = f"differs in {', '.join(dict.fromkeys(wrong[:10]))}"
                        problems.append((keys.list_key(each), what))
                open_ = sorted(moved)
            else:
                await asyncio.sleep(_WAIT_SECONDS)
        raise _lags()

    # From Valkey: what must not be there

    async def _verify_keys(self, cursor: int) -> Verified:
        found = Verified()
        cursor, names = await self._client.scan(cursor, count=_SCAN)
        for name in names:
            key = name.decode()
            if key.startswith(keys.PREFIXES):
                found.keys += 1
                found.problems += await self._find_strangers(key)
        found.problems = found.problems[:_MOST_PROBLEMS]
        found.next_cursor = f"{_KEYS}{cursor}" if cursor else ""
        return found

    async def _find_strangers(self, key: str) -> list[tuple[str, str]]:
        kind = (await self._client.type(key)).decode()
        owner = key.removeprefix("r:i:").removeprefix("r:")
        if kind == "hash" or (kind == "set" and key.startswith("r:i:")):
            if not is_id(owner):
                return [(key, "is no key of the catalog")]
            return [each for each in await self._compare([owner]) if each[0] == key]
        if kind == "zset" and not key.startswith(keys.SORTS):
            return await self._compare_lists([key.removeprefix("r:")])
        problems: list[tuple[str, str]] = []
        members: list[str] = []
        async for member in self._members(key, kind):
            members.append(member)
            if len(members) == _MEMBERS:
                problems += await self._find_strange_members(key, members)
                members = []
        problems += await self._find_strange_members(key, members)
        return problems

    async def _members(self, key: str, kind: str) -> Any:
        if kind == "set":
            async for member in self._client.sscan_iter(key, count=_MEMBERS):
                yield member.decode()
        elif kind == "zset":
            async for member, _ in self._client.zscan_iter(key, count=_MEMBERS):
                yield member.decode()

    async def _find_strange_members(self, key: str, members: Sequence[str]) -> list[tuple[str, str]]:
        """Those that the record does not have in the set. What is in the record was compared before."""
        problems: list[tuple[str, str]] = []
        open_ = list(members)
        for _ in range(_TRIES):
            if not open_:
                return problems
            async with self._pool.acquire() as connection, connection.transaction(**_SNAPSHOT):
                head = await read_head(connection)
                rows = await read_projected(connection, [each for each in open_ if is_id(each)])
                layouts = await read_layouts(connection)
            projected = (project(row, layouts, self._settings.parts) for row in rows.values())
            expected = {each.id for each in projected if _is_in(key, each)}
            open_ = [each for each in open_ if each not in expected]
            position, present = await self._read_members(head.change, key, open_)
            if position >= head.change:
                moved = await self._moved_between(head.change, position, open_)
                problems += [
                    (key, f"has {each}, which the record does not have there")
                    for each in present
                    if each not in moved
                ]
                open_ = sorted(moved)
            else:
                await asyncio.sleep(_WAIT_SECONDS)
        raise _lags()

    async def _read_members(self, change: int, key: str, members: Sequence[str]) -> tuple[int, list[str]]:
        """The position, and those that are members at it."""
        pipeline = self._client.pipeline(transaction=True)
        pipeline.mget(keys.TOKEN, keys.POSITION)
        for each in members:
            if key.startswith(keys.SORTS):
                pipeline.zscore(key, each)
            else:
                pipeline.sismember(key, each)
        state, *answers = await pipeline.execute()
        is_in = [answer is not None if key.startswith(keys.SORTS) else bool(answer) for answer in answers]
        position = self._position_of(state, change)
        return position, [each for each, found in zip(members, is_in, strict=True) if found]

    def _position_of(self, state: Sequence[bytes | None], change: int) -> int:
        """Raises Unavailable without the token."""
        token, position = state
        if token != make_token(self._cluster, change, self._settings.parts).encode() or position is None:
            raise Unavailable(
                "the projection is not complete, so there is nothing to compare; wait until `tally catalog status` "
                "shows that it is"
            )
        return int(position)

    async def _moved_between(self, change: int, position: int, ids: Sequence[str]) -> set[str]:
        rows = await self._pool.fetch(_CHANGED, change, position, ids)
        return {row["subject"] for row in rows}


def _lags() -> Unavailable:
    return Unavailable(
        "the projection does not get ahead of the writes, so it cannot be compared; `tally catalog status` shows its "
        "state. Send the same again"
    )


def _is_in(key: str, of: Projected) -> bool:
    return key in of.keys or key.removeprefix(keys.SORTS) in of.sorts


def _differences(wanted: Projected, held: _Held) -> list[tuple[str, str]]:
    problems = []
    fields = {name.encode(): value.encode() for name, value in wanted.fields.items()}
    if held.fields != fields:
        names = sorted(
            name.decode()
            for name in fields.keys() | held.fields.keys()
            if fields.get(name) != held.fields.get(name)
        )
        problems.append((keys.resource_key(wanted.id), f"differs in {', '.join(names)}"))
    tracked = {*wanted.keys, *(keys.sort_key(name) for name in wanted.sorts)}
    if held.tracker != tracked:
        problems.append((keys.tracker_key(wanted.id), "does not name the sets and sorts of the record"))
    problems += [(key, f"does not have {wanted.id} as the record has it") for key in held.missing]
    return problems
