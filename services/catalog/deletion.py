"""Deletes: one resource, or a container, with its children detached or deleted.

The children go first, in pieces of one transaction each, and the container with the last of them. A delete that is cut
off is gone on with by sending it again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import asyncpg

from services.catalog.feed import DRAWN
from services.catalog.ids import WHAT_AN_ID_IS, is_id
from services.catalog.index import MAX_DEPTH
from services.catalog.list_record import finish_leaving, leave_lists, remove_owned_lists
from services.catalog.resource_record import join_scores, make_fingerprint, make_mismatch
from services.catalog.resource_type import Indexed
from services.catalog.writing import Writing
from tally.contract.errors import InUse, InvalidRequest, Violation

_LOCK = """
select id, keys, version from catalog.resource where id = any($1::text[]) order by id for update"""
_DELETE = "delete from catalog.resource where id = any($1::text[])"
# Their rules stay: a resource that is stored again is hidden at once.
_FINISH_DELETE = f"""
with {DRAWN}
insert into catalog.change (change, kind, subject, removed)
select change, 'deleted', id, string_to_array(removed, chr(10))
from drawn, unnest($1::text[], $2::text[]) as gone (id, removed)
union all
select change, 'list', list, string_to_array(removed, chr(10))
from drawn, unnest($3::text[], $4::text[]) as gone (list, removed)
returning change"""
# The lowest first: then none has children when it goes.
_BELOW = """
with recursive below as (
    select id, 0 as depth from catalog.resource where parent = $1
    union all
    select resource.id, depth + 1 from below join catalog.resource on resource.parent = below.id where depth < $2
)
select id from below order by depth desc, id limit $3"""
_LOCK_CHILDREN = """
select id, external_id, details, keys, layout, scores from catalog.resource where parent = $1
order by id limit $2 for update"""
_DETACH = """
update catalog.resource set parent = null, keys = string_to_array(made.keys, chr(10)), fingerprint = made.fingerprint
from unnest($1::text[], $2::text[], $3::bytea[]) as made (id, keys, fingerprint) where resource.id = made.id"""
_FINISH_DETACH = f"""
with {DRAWN}, versioned as (
    update catalog.resource set version = change, updated_at = greatest(now(), updated_at)
    from drawn where id = any($1::text[])
)
insert into catalog.change (change, kind, subject, removed, scores, layout)
select change, 'put', id, string_to_array(removed, chr(10)), string_to_array(scores, ' ', 'null')::double precision[],
    layout
from drawn, unnest($1::text[], $2::text[], $3::text[], $4::integer[]) as made (id, removed, scores, layout)"""

PIECE = 500
"""Children that one transaction removes."""
_ENTRIES = 5_000
"""Entries of lists that one transaction removes before the resources themselves."""


class Children(Enum):
    """The effect of a delete on the children of the resource."""

    REFUSE = "refuse"
    """it is not deleted while it has some"""
    DETACH = "detach"
    """they stay, without a parent"""
    DELETE = "delete"
    """they go, with all that is below them"""


@dataclass(frozen=True, slots=True)
class Deleted:
    """The outcome of a delete."""

    change: int
    """the last one; 0: nothing was there"""
    children: int
    """resources below it that were removed or detached by this call"""


async def delete_resource(
    writing: Writing,
    resource_id: str,
    expected_version: int | None,
    children: Children = Children.REFUSE,
    piece: int = PIECE,
) -> Deleted:
    """Remove a resource, but not its rules. Raises InUse while it has children, and VersionMismatch."""
    if not is_id(resource_id):
        raise InvalidRequest([Violation("id", WHAT_AN_ID_IS)])
    count = 0
    while True:
        try:
            async with writing.transaction() as connection:
                if children is not Children.REFUSE:
                    await _check_version(connection, resource_id, expected_version)
                    if (done := await _remove_children(connection, resource_id, children, piece)) is not None:
                        count += done
                        continue
                change = await _delete(connection, resource_id, expected_version)
                if change is not None:
                    return Deleted(change, count)
        except asyncpg.ForeignKeyViolationError as error:
            if children is Children.REFUSE:
                raise InUse(
                    f"{resource_id} has children, and children without a parent cannot be stored. Delete or move "
                    "them first, or say what becomes of them: `children` detach or delete"
                ) from error
            # One more came meanwhile, below it or below one of them.


async def _delete(connection: Any, resource_id: str, expected_version: int | None) -> int | None:
    """The change; 0: it was not there; None: it has left some lists, and may be in more."""
    rows = await _lock(connection, resource_id, expected_version)
    return await _remove(connection, rows) if rows else 0


async def _check_version(connection: Any, resource_id: str, expected_version: int | None) -> None:
    if expected_version is not None:
        await _lock(connection, resource_id, expected_version)


async def _lock(connection: Any, resource_id: str, expected_version: int | None) -> list[Any]:
    rows: list[Any] = await connection.fetch(_LOCK, [resource_id])
    version = rows[0]["version"] if rows else 0
    if expected_version is not None and expected_version != version:
        raise make_mismatch(resource_id, expected_version, version)
    return rows


async def _remove(connection: Any, rows: Sequence[Any]) -> int | None:
    """Remove resources with every membership of them; None: a piece of these was removed, and there may be more."""
    ids = [row["id"] for row in rows]
    left = await leave_lists(connection, ids, _ENTRIES)
    if sum(map(len, left.values())) == _ENTRIES:
        await finish_leaving(connection, left)
        return None
    await remove_owned_lists(connection, ids)
    await connection.execute(_DELETE, ids)
    removed = ["\n".join(row["keys"]) for row in rows]
    gone = ["\n".join(each) for each in left.values()]
    change: int = await connection.fetchval(_FINISH_DELETE, ids, removed, list(left), gone)
    return change


async def _remove_children(connection: Any, resource_id: str, children: Children, piece: int) -> int | None:
    """How many were removed or detached in this piece; None: there are none."""
    if children is Children.DETACH:
        return await _detach(connection, resource_id, piece)
    below = [row["id"] for row in await connection.fetch(_BELOW, resource_id, MAX_DEPTH, piece)]
    rows = await connection.fetch(_LOCK, below)
    if not rows:
        return None
    return len(rows) if await _remove(connection, rows) is not None else 0


async def _detach(connection: Any, resource_id: str, piece: int) -> int | None:
    rows = await connection.fetch(_LOCK_CHILDREN, resource_id, piece)
    if not rows:
        return None
    ids, keys, removed, fingerprints, scores = [], [], [], [], []
    for row in rows:
        gone = [key for key in row["keys"] if key.startswith(f"{resource_id}:")]
        kept = tuple(key for key in row["keys"] if key not in gone)
        indexed = Indexed(None, kept, tuple(row["scores"]))
        ids.append(row["id"])
        keys.append("\n".join(kept))
        removed.append("\n".join(gone))
        fingerprints.append(make_fingerprint(row["external_id"] or "", row["details"], indexed))
        scores.append(join_scores(row["scores"]))
    await connection.execute(_DETACH, ids, keys, fingerprints)
    await connection.execute(_FINISH_DETACH, ids, removed, scores, [row["layout"] for row in rows])
    return len(rows)
