"""Indexes the resources of a changed type again: in pieces, by any replica, from where another stopped.

A resource that does not fit the type as it is now keeps the sets and the scores that it had, and is listed with its
problem: it must not leave a set by which rules hide it.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from services.catalog.details import parse_details
from services.catalog.feed import DRAWN
from services.catalog.ids import is_id
from services.catalog.layout import changed_names, name_of_set
from services.catalog.resource_record import check_depth, join_scores, lock_parents, make_fingerprint
from services.catalog.resource_type import Indexed
from services.catalog.type_record import HeldType, hold_types
from services.catalog.type_wire import type_of_message
from services.catalog.writing import Writing
from tally.catalog.v1 import resource_pb2 as pb
from tally.contract.errors import IndexIncomplete, InvalidRequest

_FIRST = "select suffix from catalog.reindexing order by suffix limit 1"
_LOCK = "select after from catalog.reindexing where suffix = $1 for update skip locked"
_PIECE = """
select id, external_id, details, parent, keys from catalog.resource
where suffix = $1 and id > $2 and layout <> $3 order by id limit $4 for update"""
_PARENTS = "select id from catalog.resource where id = any($1::text[]) order by id for key share"
_INDEX = """
update catalog.resource set parent = made.parent, keys = string_to_array(made.keys, chr(10)),
    scores = string_to_array(made.scores, ' ', 'null')::double precision[], fingerprint = made.fingerprint, layout = $6
from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[]) as made (id, parent, keys, scores, fingerprint)
where resource.id = made.id"""
_MISFIT = """
insert into catalog.misfit (id, problem) select * from unnest($1::text[], $2::text[])
on conflict (id) do update set problem = excluded.problem"""
_FITS = "delete from catalog.misfit where id = any($1::text[])"
_GO_ON = "update catalog.reindexing set after = $2 where suffix = $1"
_FINISH_PIECE = f"""
with {DRAWN}
insert into catalog.change (change, kind, subject, removed, scores, layout)
select change, 'put', id, string_to_array(removed, chr(10)), string_to_array(scores, ' ', 'null')::double precision[],
    $4
from drawn, unnest($1::text[], $2::text[], $3::text[]) as made (id, removed, scores)"""
_FINISH = f"""
with {DRAWN}, finished as (
    delete from catalog.reindexing where suffix = $1
)
insert into catalog.change (change, kind, subject) select change, 'type', $1 from drawn"""
_INCOMPLETE = "select distinct unnest(names) as name from catalog.reindexing"
# Where the type that a misfit was indexed by last differs from its type as it is now.
_MISFIT_LAYOUTS = """
select distinct layout.definition as old, type.definition as new
from catalog.misfit join catalog.resource using (id) join catalog.type using (suffix)
join catalog.layout on layout.layout = resource.layout
where resource.layout <> type.layout"""
_PROGRESS = "select suffix, names, after from catalog.reindexing order by suffix"
_COUNT_MISFITS = "select count(*) from catalog.misfit"
_MISFITS = "select id, problem from catalog.misfit order by id limit $1"

PIECE = 500
"""Resources that one transaction indexes."""
_YIELD = 20


@dataclass(frozen=True, slots=True)
class Reindexing:
    """The progress of a type whose resources are being reindexed."""

    suffix: str
    names: Sequence[str]
    after: str
    """the last id that is done"""


@dataclass(frozen=True, slots=True)
class _Indexed:
    id: str
    indexed: Indexed
    removed: Sequence[str]
    has_moved: bool
    fingerprint: bytes


async def read_incomplete(connection: Any) -> frozenset[str]:
    """What is not complete: index:genre, sort:views, children:videos. Over an asyncpg connection or pool."""
    return frozenset(row["name"] for row in await connection.fetch(_INCOMPLETE))


async def check_settled(connection: Any, subjects: Iterable[str]) -> None:
    """Raises IndexIncomplete for sets that resources which are stored may still have to enter, or to leave.

    Rules about such a set would not be in force for them. Over a pool, or a connection that holds the types.
    """
    named = {name_of_set(each): each for each in subjects if not is_id(each)}
    if not named:
        return
    if found := sorted(named.keys() & await read_incomplete(connection)):
        raise IndexIncomplete(
            f"{named[found[0]]}: {found[0]} is not complete, as a type was changed and its resources are being indexed "
            "anew; rules about this set would not hold for all of them. Send the same again later (`tally catalog "
            "status` shows how far it is), or put the rules on the resources themselves"
        )
    unsettled: set[str] = set()
    for row in await connection.fetch(_MISFIT_LAYOUTS):
        unsettled |= changed_names(*(type_of_message(pb.Type.FromString(each)) for each in row))
    if found := sorted(named.keys() & unsettled):
        raise IndexIncomplete(
            f"{named[found[0]]}: {found[0]} is not complete, as some resources do not fit their type since it was "
            "changed; rules about this set would not hold for them. Put these resources so that they fit, or delete "
            "them (`tally catalog status` lists them with their problems), or put the rules on the resources themselves"
        )


async def read_progress(connection: Any) -> list[Reindexing]:
    """The types whose resources are being reindexed."""
    return [Reindexing(*row) for row in await connection.fetch(_PROGRESS)]


async def read_misfits(connection: Any, limit: int) -> tuple[int, list[tuple[str, str]]]:
    """How many resources do not fit their type, and the first of them with their problems."""
    count: int = await connection.fetchval(_COUNT_MISFITS)
    return count, [(row["id"], row["problem"]) for row in await connection.fetch(_MISFITS, limit)]


async def reindex_piece(writing: Writing, pool: Any, piece: int = PIECE) -> bool:
    """Reindex some resources. False: nothing is left to do, or another replica does it.

    Raises Unavailable, and what is in AWAY.
    """
    suffix = await pool.fetchval(_FIRST)
    if suffix is None:
        return False
    try:
        async with writing.transaction() as connection:
            return await _index_piece(connection, suffix, piece)
    except _TooDeep:
        # One by one, to find those that would make a circle of parents, or be too deep.
        async with writing.transaction() as connection:
            return await _index_piece(connection, suffix, 1)


class _TooDeep(Exception):
    pass


async def _index_piece(connection: Any, suffix: str, piece: int) -> bool:
    held = (await hold_types(connection, {suffix}))[suffix]
    after = await connection.fetchval(_LOCK, suffix)
    if after is None:
        return False
    rows = await connection.fetch(_PIECE, suffix, after, held.layout, piece)
    if not rows:
        await connection.execute(_FINISH, suffix)
        return True
    fitting, misfits = await _index(connection, rows, held)
    try:
        async with connection.transaction():
            await _store(connection, fitting, held.layout)
    except InvalidRequest as error:
        if piece > 1:
            raise _TooDeep from error
        fitting, misfits = [], {rows[0]["id"]: error.violations[0].description}
    await connection.execute(_FITS, [each.id for each in fitting])
    await connection.execute(_MISFIT, list(misfits), list(misfits.values()))
    await connection.execute(_GO_ON, suffix, rows[-1]["id"])
    if fitting:
        await connection.execute(
            _FINISH_PIECE,
            [each.id for each in fitting],
            ["\n".join(each.removed) for each in fitting],
            [join_scores(each.indexed.scores) for each in fitting],
            held.layout,
        )
    return True


async def _index(
    connection: Any, rows: Sequence[Any], held: HeldType
) -> tuple[list[_Indexed], dict[str, str]]:
    """What follows from the details now, and what is wrong with those that do not fit."""
    found: list[_Indexed] = []
    misfits: dict[str, str] = {}
    for count, row in enumerate(rows, 1):
        indexed = held.type.index(parse_details(row["details"]))
        if indexed.violations:
            misfits[row["id"]] = "; ".join(f"{each.field} {each.description}" for each in indexed.violations)
            continue
        removed = sorted(set(row["keys"]).difference(indexed.keys))
        fingerprint = make_fingerprint(row["external_id"] or "", row["details"], indexed)
        has_moved = row["parent"] != indexed.parent
        found.append(_Indexed(row["id"], indexed, removed, has_moved, fingerprint))
        if count % _YIELD == 0:
            await asyncio.sleep(0)
    wanted = {each.indexed.parent for each in found if each.indexed.parent is not None}
    stored = {row["id"] for row in await connection.fetch(_PARENTS, sorted(wanted))}
    for each in found:
        if each.indexed.parent is not None and each.indexed.parent not in stored:
            misfits[each.id] = f"its parent would be {each.indexed.parent}, which is not stored"
    return [each for each in found if each.id not in misfits], misfits


async def _store(connection: Any, fitting: Sequence[_Indexed], layout: int) -> None:
    moved = [each.id for each in fitting if each.has_moved]
    if moved:
        await lock_parents(connection, is_moved=True)
    await connection.execute(
        _INDEX,
        [each.id for each in fitting],
        [each.indexed.parent for each in fitting],
        ["\n".join(each.indexed.keys) for each in fitting],
        [join_scores(each.indexed.scores) for each in fitting],
        [each.fingerprint for each in fitting],
        layout,
    )
    await check_depth(connection, moved, has_moved=True)
