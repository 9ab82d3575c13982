"""Lists in Postgres: adding, removing, replacing, and whose entries a resource is.

A score is the time of adding in milliseconds of Postgres's clock, above every score that the list has. A list's row is
locked for each write of it.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from services.catalog.feed import DRAWN
from services.catalog.ids import WHAT_AN_ID_IS, is_id
from services.catalog.list_kind import ListKind, find_kind, owner_of
from services.catalog.resource_type import is_name
from services.catalog.type_record import hold_types
from services.catalog.writing import Writing
from tally.contract.errors import InvalidRequest, ListFull, Violation

MAX_IDS = 1_000
"""In one call that adds or removes."""

_LOCK = "select number, change from catalog.list where list = $1 for update"
_MAKE = "insert into catalog.list (list, owner) values ($1, $2) on conflict (list) do nothing"
_MEASURE = """
select count(*) as count, coalesce(max(score), 0) as newest,
    (extract(epoch from clock_timestamp()) * 1000)::bigint as now_ms
from catalog.list_entry where number = $1"""
_PRESENT = "select id from catalog.list_entry where number = $1 and id = any($2::text[])"
_ALL = "select id from catalog.list_entry where number = $1 order by score desc"
_ADD = """
insert into catalog.list_entry (number, id, score) select $1, * from unnest($2::text[], $3::bigint[])
on conflict (number, id) do update set score = excluded.score"""
_DROP_OLDEST = """
delete from catalog.list_entry where number = $1 and id in (
    select id from catalog.list_entry where number = $1 order by score limit $2
) returning id"""
_REMOVE = "delete from catalog.list_entry where number = $1 and id = any($2::text[]) returning id"
_FINISH = f"""
with {DRAWN}, marked as (
    update catalog.list set change = drawn.change from drawn where number = $1
)
insert into catalog.change (change, kind, subject, removed, added, scores)
select change, 'list', $2, $3, $4, $5 from drawn returning change"""
_MISSING = """
select id from unnest($1::text[]) as wanted (id)
where not exists (select from catalog.resource where resource.id = wanted.id) order by id"""
_MEMBERSHIPS = """
select list, score from catalog.list_entry join catalog.list using (number)
where id = $1 and list > $2 order by list limit $3"""
_READ = """
select list, id, score from catalog.list join catalog.list_entry using (number) where list = any($1::text[])
limit $2"""
_READ_ALL = """
select number, list, id, score from catalog.list join catalog.list_entry using (number)
where (number, id) > ($1, $2) order by number, id limit $3"""
_NAMES = "select list from catalog.list where list > $1 order by list limit $2"
# Of resources that are deleted: the lists that they are in, and those that they own.
_LOCK_LEFT = """
select number from catalog.list
where owner = any($1::text[]) or number in (select number from catalog.list_entry where id = any($1::text[]) limit $2)
order by number for update"""
_LEAVE = """
with leaving as (
    select list_entry.number, id from catalog.list_entry join catalog.list using (number)
    where number = any($1::bigint[]) and (id = any($2::text[]) or owner = any($2::text[])) limit $3
), gone as (
    delete from catalog.list_entry using leaving
    where list_entry.number = leaving.number and list_entry.id = leaving.id
    returning list_entry.number, list_entry.id
)
select list, array_agg(id) as ids from gone join catalog.list using (number) group by list order by list"""
_FINISH_LEAVE = f"""
with {DRAWN}
insert into catalog.change (change, kind, subject, removed)
select change, 'list', list, string_to_array(removed, chr(10))
from drawn, unnest($1::text[], $2::text[]) as made (list, removed)"""
_REMOVE_OWNED = "delete from catalog.list where owner = any($1::text[])"


@dataclass(frozen=True, slots=True)
class Changed:
    """The outcome of a write of a list."""

    change: int
    """the newest of the list; 0: it was never written"""
    added: int = 0
    moved: int = 0
    removed: int = 0
    """by the call, or dropped because there were too many"""
    missing: Sequence[str] = ()
    """ids of the call that are not stored: they are shown when they are"""


async def add_to_list(writing: Writing, key: str, ids: Sequence[str], max_entries: int) -> Changed:
    """Add ids, the last one newest. Raises InvalidRequest and ListFull."""
    _check_ids(ids, MAX_IDS)
    async with _writing(writing, key) as (connection, kind):
        number, change = await _lock(connection, key)
        measured = await connection.fetchrow(_MEASURE, number)
        present = {row["id"] for row in await connection.fetch(_PRESENT, number, ids)}
        placed = [each for each in ids if kind.moves or each not in present]
        missing = await _find_missing(connection, ids)
        if not placed:
            return Changed(change, missing=missing)
        too_many = (
            measured["count"] + len(placed) - len(present.intersection(placed)) - _limit(kind, max_entries)
        )
        if too_many > 0 and not kind.drops_oldest:
            raise ListFull(
                f"{key} would have {_limit(kind, max_entries) + too_many:,} entries, and may have "
                f"{_limit(kind, max_entries):,}. Remove some first"
            )
        first = max(measured["now_ms"], measured["newest"] + 1)
        scores = [first + place for place in range(len(placed))]
        await connection.execute(_ADD, number, placed, scores)
        dropped: set[str] = set()
        if too_many > 0:
            dropped = {row["id"] for row in await connection.fetch(_DROP_OLDEST, number, too_many)}
        # Where the call has more than the list may have, the first of them do not come into it.
        kept = {each: score for each, score in zip(placed, scores, strict=True) if each not in dropped}
        removed = sorted(dropped.difference(placed) | dropped.intersection(present))
        change = await _finish(connection, number, key, removed, list(kept), list(kept.values()))
        moved = len(present.intersection(kept))
        return Changed(change, len(kept) - moved, moved, len(removed), missing)


async def remove_from_list(writing: Writing, key: str, ids: Sequence[str]) -> Changed:
    """Remove ids; those that are not in it change nothing. Raises InvalidRequest."""
    _check_ids(ids, MAX_IDS)
    async with _writing(writing, key) as (connection, _):
        number, change = await _lock(connection, key)
        removed = [row["id"] for row in await connection.fetch(_REMOVE, number, ids)]
        if not removed:
            return Changed(change)
        change = await _finish(connection, number, key, removed, [], [])
        return Changed(change, removed=len(removed))


async def replace_list(writing: Writing, key: str, ids: Sequence[str], max_entries: int) -> Changed:
    """Let the list have these ids and no others, the first one first in a descending page. Raises InvalidRequest."""
    async with _writing(writing, key) as (connection, kind):
        _check_ids(ids, _limit(kind, max_entries), may_be_empty=True)
        number, change = await _lock(connection, key)
        before = [row["id"] for row in await connection.fetch(_ALL, number)]
        missing = await _find_missing(connection, ids)
        if before == list(ids):
            return Changed(change, missing=missing)
        measured = await connection.fetchrow(_MEASURE, number)
        removed = sorted(set(before).difference(ids))
        await connection.fetch(_REMOVE, number, removed)
        first = max(measured["now_ms"], measured["newest"] + 1)
        scores = [first + place for place in reversed(range(len(ids)))]
        await connection.execute(_ADD, number, ids, scores)
        change = await _finish(connection, number, key, removed, ids, scores)
        added = len(set(ids).difference(before))
        return Changed(change, added, len(ids) - added, len(removed), missing)


async def list_memberships(
    connection: Any, resource_id: str, after: str, limit: int
) -> list[tuple[str, int]]:
    """The lists that a resource is in, behind `after`, each with its score; over an asyncpg connection or pool."""
    rows = await connection.fetch(_MEMBERSHIPS, resource_id, after, limit)
    return [(row["list"], row["score"]) for row in rows]


async def read_lists(
    connection: Any, keys: Sequence[str], limit: int | None = None
) -> dict[str, dict[str, int]]:
    """The scores of the entries of lists, by key and id; of all lists together not more than `limit`."""
    found: dict[str, dict[str, int]] = {each: {} for each in keys}
    for row in await connection.fetch(_READ, list(keys), limit):
        found[row["list"]][row["id"]] = row["score"]
    return found


async def read_all_entries(connection: Any, after: tuple[int, str], limit: int) -> list[Any]:
    """Entries behind a number and an id: number, list, id, score."""
    rows: list[Any] = await connection.fetch(_READ_ALL, *after, limit)
    return rows


async def read_list_names(connection: Any, after: str, limit: int) -> list[str]:
    """The keys of lists, in order."""
    return [row["list"] for row in await connection.fetch(_NAMES, after, limit)]


async def leave_lists(connection: Any, ids: Sequence[str], limit: int) -> dict[str, list[str]]:
    """Take resources out of lists, and empty those that they own, up to so many entries: the ids that left each list.

    The caller adds the changes: with `finish_leaving`, or with those of its own.
    """
    numbers = [row["number"] for row in await connection.fetch(_LOCK_LEFT, ids, limit)]
    rows = await connection.fetch(_LEAVE, numbers, ids, limit) if numbers else []
    return {row["list"]: row["ids"] for row in rows}


async def finish_leaving(connection: Any, left: Mapping[str, Sequence[str]]) -> None:
    """Draw the change by which ids have left lists."""
    await connection.execute(_FINISH_LEAVE, list(left), ["\n".join(each) for each in left.values()])


async def remove_owned_lists(connection: Any, ids: Sequence[str]) -> None:
    """Remove the lists that resources own, which must be empty."""
    await connection.execute(_REMOVE_OWNED, ids)


@asynccontextmanager
async def _writing(writing: Writing, key: str) -> AsyncIterator[tuple[Any, ListKind]]:
    """A transaction for a list that there can be, with its kind. Raises InvalidRequest."""
    try:
        async with writing.transaction() as connection:
            owner = owner_of(key)
            held = await hold_types(connection, {owner[-1]}) if owner else {}
            kind = find_kind([each.type for each in held.values()], key)
            if kind is None or not is_name(key.partition(":")[2]):
                raise InvalidRequest(
                    [
                        Violation(
                            "list",
                            f"{key!r} must be a list that the type of its owner names, 9002u:subscriptions, or a "
                            "curated one, list:featured",
                        )
                    ]
                )
            yield connection, kind
    except asyncpg.ForeignKeyViolationError as error:
        raise InvalidRequest(
            [Violation("list", f"{owner_of(key)} is not stored; store the owner of the list first")]
        ) from error


async def _lock(connection: Any, key: str) -> tuple[int, int]:
    """The number of the list, which is made if need be, and its newest change."""
    if (row := await connection.fetchrow(_LOCK, key)) is None:
        await connection.execute(_MAKE, key, owner_of(key))
        row = await connection.fetchrow(_LOCK, key)
    return row["number"], row["change"]


async def _finish(
    connection: Any,
    number: int,
    key: str,
    removed: Sequence[str],
    added: Sequence[str],
    scores: Sequence[int],
) -> int:
    change: int = await connection.fetchval(
        _FINISH, number, key, list(removed), list(added), [float(score) for score in scores]
    )
    return change


async def _find_missing(connection: Any, ids: Sequence[str]) -> list[str]:
    return [row["id"] for row in await connection.fetch(_MISSING, ids)]


def _limit(kind: ListKind, max_entries: int) -> int:
    return min(kind.limit or max_entries, max_entries)


def _check_ids(ids: Sequence[str], most: int, *, may_be_empty: bool = False) -> None:
    if not (ids or may_be_empty) or len(ids) > most:
        raise InvalidRequest([Violation("ids", f"must be 1 to {most:,}, and are {len(ids):,}")])
    wrong = [Violation(f"ids[{index}]", WHAT_AN_ID_IS) for index, each in enumerate(ids) if not is_id(each)]
    if not wrong and len(set(ids)) < len(ids):
        wrong.append(Violation("ids", "must not have an id twice"))
    if wrong:
        raise InvalidRequest(wrong)
