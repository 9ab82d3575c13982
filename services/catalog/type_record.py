"""Types and dimensions in Postgres."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg

from services.catalog.feed import DRAWN
from services.catalog.layout import add_layout, changed_names, left_names
from services.catalog.resource_type import ResourceType
from services.catalog.rule import CODE, WHAT_A_CODE_IS, Dimensions
from services.catalog.type_wire import message_of_type, type_of_message
from services.catalog.writing import Writing
from tally.catalog.v1 import resource_pb2 as pb
from tally.contract.errors import InUse, InvalidRequest, Violation

# Puts read their type `for key share`, and so do rules: they wait for this, or this for them.
_LOCK_TYPE = "select definition, layout, change from catalog.type where suffix = $1 for update"
_HAS_RESOURCES = "select exists (select from catalog.resource where suffix = $1)"
_PUT_TYPE = f"""
with {DRAWN}, stored as (
    insert into catalog.type (suffix, name, definition, layout, change) select $1, $2, $3, $4, change from drawn
    on conflict (suffix) do update set name = excluded.name, definition = excluded.definition,
        layout = excluded.layout, change = excluded.change
)
insert into catalog.change (change, kind, subject) select change, 'type', $1 from drawn returning change"""
_READ_TYPES = "select definition from catalog.type order by suffix"
_READ_TYPES_FOR_PUT = """
select suffix, definition, layout from catalog.type where suffix = any($1) order by suffix for key share"""
_SHARE_TYPES = "select definition from catalog.type order by suffix for key share"
_RULED_SETS = """
select subject from catalog.subject
where subject like '%:%' and exists (select from catalog.rule where rule.subject = subject.subject)
    and (split_part(subject, ':', 1) = any($1) or (subject ~ '^[1-9]' and split_part(subject, ':', 2) = any($1)))
order by subject limit 1"""
# Of the parents of a type's resources, and of all above these: one that rules are about, or that is in such a set.
_RULED_PARENT = """
with recursive above as (
    select distinct parent as id from catalog.resource where suffix = $1 and parent is not null
    union
    select resource.parent from above join catalog.resource using (id) where resource.parent is not null
), ruled as materialized (
    select subject from catalog.subject where exists (select from catalog.rule where rule.subject = subject.subject)
)
select subject, id from (
    select subject, id from above join ruled on subject = id
    union all
    select subject, id from above join catalog.resource using (id), unnest(keys) as key join ruled on subject = key
) as found order by subject, id limit 1"""
_OWNED_LIST = """
select list from catalog.list
where right(owner, 1) = $1 and split_part(list, ':', 2) = any($2::text[]) limit 1"""
_BEGIN_REINDEXING = """
insert into catalog.reindexing (suffix, names) values ($1, $2) on conflict (suffix) do update
set after = '', names = array(select distinct unnest(reindexing.names || excluded.names))"""
_READ_DIMENSIONS = "select kind, code from catalog.dimension"
# Rules read the codes `for key share`.
_LOCK_DIMENSIONS = "select from catalog.dimension where kind = $1 for update"
_USED_CODES = {
    "application": "select distinct unnest(applications) as code from catalog.rule",
    "platform": "select distinct unnest(platforms) as code from catalog.rule",
}
_REMOVE_CODES = "delete from catalog.dimension where kind = $1 and code <> all($2)"
_ADD_CODES = "insert into catalog.dimension (kind, code) select $1, unnest($2::text[]) on conflict do nothing"
_MARK_DIMENSION = f"""
with {DRAWN}
insert into catalog.change (change, kind, subject) select change, 'dimension', $1 from drawn returning change"""
_SHARE_DIMENSIONS = "select kind, code from catalog.dimension for key share"
MAX_CODES = 1_000


@dataclass(frozen=True, slots=True)
class HeldType:
    """A type, and the layout that it has now."""

    type: ResourceType
    layout: int


@dataclass(frozen=True, slots=True)
class StoredType:
    """The outcome of a put of a type."""

    change: int
    is_reindexed: bool
    """whether its resources are being reindexed"""


async def put_type(writing: Writing, new: ResourceType) -> StoredType:
    """Store a type. Its resources are reindexed afterwards, where they must be.

    Raises InvalidRequest, and InUse when resources would leave a set that rules are about.
    """
    if wrong := new.check():
        raise InvalidRequest(wrong)
    definition = message_of_type(new).SerializeToString(deterministic=True)
    try:
        async with writing.transaction() as connection:
            row = await connection.fetchrow(_LOCK_TYPE, new.suffix)
            await _check_words(connection, new)
            if row is None:
                layout = await add_layout(connection, definition)
                change = await connection.fetchval(_PUT_TYPE, new.suffix, new.name, definition, layout)
                return StoredType(change, False)
            old = type_of_message(pb.Type.FromString(row["definition"]))
            if old == new:
                return StoredType(row["change"], False)
            await _check_lists(connection, old, new)
            layout, is_reindexed = row["layout"], False
            if old.layout != new.layout:
                layout = await add_layout(connection, definition)
                is_reindexed = await connection.fetchval(_HAS_RESOURCES, new.suffix)
                await _check_rules(connection, old, new)
            if is_reindexed:
                await connection.execute(_BEGIN_REINDEXING, new.suffix, sorted(changed_names(old, new)))
            change = await connection.fetchval(_PUT_TYPE, new.suffix, new.name, definition, layout)
            return StoredType(change, is_reindexed)
    except asyncpg.UniqueViolationError as error:
        raise InvalidRequest(
            [Violation("type.name", f"{new.name!r} is the name of another type; choose another name")]
        ) from error


async def _check_words(connection: Any, new: ResourceType) -> None:
    """1000c:videos must be a set or a list, and not both."""
    others = [each for each in await hold_all_types(connection) if each.suffix != new.suffix]
    words = {each.children for each in others}
    lists = {kind.name for each in others for kind in each.lists}
    wrong = {kind.name for kind in new.lists} & words | {new.children} & lists
    if wrong:
        raise InvalidRequest(
            [Violation("type.lists", f"{sorted(wrong)} would be lists and children; choose another name")]
        )


async def _check_lists(connection: Any, old: ResourceType, new: ResourceType) -> None:
    gone = {kind.name for kind in old.lists}.difference(kind.name for kind in new.lists)
    if gone and (key := await connection.fetchval(_OWNED_LIST, new.suffix, sorted(gone))) is not None:
        raise InUse(f"{key} is a list of this type; delete its owner first, or keep the name in the type")


async def _check_rules(connection: Any, old: ResourceType, new: ResourceType) -> None:
    names = left_names(old, new)
    if (subject := await connection.fetchval(_RULED_SETS, sorted(names))) is not None:
        raise InUse(
            f"rules are about {subject}, and resources of the type {old.name} would leave that set, so that they "
            "might be shown. Remove these rules first, or give the index another name"
        )
    if not old.inherits_holdbacks or old.parent in ("", new.parent):
        return
    if (row := await connection.fetchrow(_RULED_PARENT, new.suffix)) is not None:
        raise InUse(
            f"rules are about {row['subject']}, and hold for resources of the type {old.name} below {row['id']}; these "
            "would get other parents, so that they might be shown. Remove these rules first, or keep the parent of "
            "the type"
        )


async def read_types(connection: Any) -> list[ResourceType]:
    """All types, over an asyncpg connection or pool."""
    rows = await connection.fetch(_READ_TYPES)
    return [type_of_message(pb.Type.FromString(row["definition"])) for row in rows]


async def hold_types(connection: Any, suffixes: set[str]) -> Mapping[str, HeldType]:
    """These types, which stay as they are until the transaction ends."""
    rows = await connection.fetch(_READ_TYPES_FOR_PUT, sorted(suffixes))
    return {
        row["suffix"]: HeldType(type_of_message(pb.Type.FromString(row["definition"])), row["layout"])
        for row in rows
    }


async def hold_all_types(connection: Any) -> list[ResourceType]:
    """All types, none of which changes until the transaction ends."""
    rows = await connection.fetch(_SHARE_TYPES)
    return [type_of_message(pb.Type.FromString(row["definition"])) for row in rows]


async def put_dimension(writing: Writing, kind: str, codes: list[str]) -> int:
    """Replace the codes of a dimension; the change that did. Raises InvalidRequest and InUse."""
    wrong = [
        Violation("dimension.codes", f"{code!r} {WHAT_A_CODE_IS}")
        for code in codes
        if not CODE.fullmatch(code)
    ]
    if len(codes) > MAX_CODES:
        wrong.append(Violation("dimension.codes", f"must be at most {MAX_CODES:,}, and are {len(codes):,}"))
    if wrong:
        raise InvalidRequest(wrong)
    async with writing.transaction() as connection:
        await connection.execute(_LOCK_DIMENSIONS, kind)
        used = {row["code"] for row in await connection.fetch(_USED_CODES[kind])}
        if missing := sorted(used.difference(codes)):
            raise InUse(f"rules name the {kind} {', '.join(missing)}; change these rules first")
        await connection.execute(_REMOVE_CODES, kind, codes)
        await connection.execute(_ADD_CODES, kind, codes)
        change: int = await connection.fetchval(_MARK_DIMENSION, kind)
        return change


async def read_dimensions(connection: Any) -> Dimensions:
    """The registered codes, over an asyncpg connection or pool."""
    return _dimensions_of(await connection.fetch(_READ_DIMENSIONS))


async def hold_dimensions(connection: Any) -> Dimensions:
    """The registered codes, none of which is taken away until the transaction ends."""
    return _dimensions_of(await connection.fetch(_SHARE_DIMENSIONS))


def _dimensions_of(rows: list[Any]) -> Dimensions:
    def of(kind: str) -> frozenset[str]:
        return frozenset(row["code"] for row in rows if row["kind"] == kind)

    return Dimensions(of("application"), of("platform"))
