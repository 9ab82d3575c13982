"""Types and dimensions in Postgres."""

from collections.abc import Mapping
from typing import Any

import asyncpg

from services.catalog.feed import DRAWN
from services.catalog.resource_type import ResourceType
from services.catalog.rule import CODE, WHAT_A_CODE_IS, Dimensions
from services.catalog.type_wire import message_of_type, type_of_message
from services.catalog.writing import Writing
from tally.catalog.v1 import resource_pb2 as pb
from tally.contract.errors import InUse, InvalidRequest, Violation

# Puts read their type `for key share`, and so wait for this, or this for them.
_LOCK_TYPE = "select definition, change from catalog.type where suffix = $1 for update"
_HAS_RESOURCES = "select exists (select from catalog.resource where suffix = $1)"
_PUT_TYPE = f"""
with {DRAWN}, stored as (
    insert into catalog.type (suffix, name, definition, change) select $1, $2, $3, change from drawn
    on conflict (suffix) do update
    set name = excluded.name, definition = excluded.definition, change = excluded.change
)
insert into catalog.change (change, kind, subject) select change, 'type', $1 from drawn returning change"""
_READ_TYPES = "select definition from catalog.type order by suffix"
_READ_TYPE_FOR_PUT = "select suffix, definition from catalog.type where suffix = any($1) for key share"
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


async def put_type(writing: Writing, new: ResourceType) -> int:
    """Store a type; the change that did. Raises InvalidRequest, and InUse when its resources would have to change."""
    if wrong := new.check():
        raise InvalidRequest(wrong)
    definition = message_of_type(new).SerializeToString(deterministic=True)
    try:
        async with writing.transaction() as connection:
            row = await connection.fetchrow(_LOCK_TYPE, new.suffix)
            if row is not None:
                old = type_of_message(pb.Type.FromString(row["definition"]))
                if old == new:
                    known: int = row["change"]
                    return known
                if old.layout != new.layout and await connection.fetchval(_HAS_RESOURCES, new.suffix):
                    raise InUse(
                        f"the type {old.name} has resources, so its parent, children, indexes and sorts cannot "
                        "change yet. Make another type, or delete the resources first"
                    )
            change: int = await connection.fetchval(_PUT_TYPE, new.suffix, new.name, definition)
            return change
    except asyncpg.UniqueViolationError as error:
        raise InvalidRequest(
            [Violation("type.name", f"{new.name!r} is the name of another type; choose another name")]
        ) from error


async def read_types(connection: Any) -> list[ResourceType]:
    """All types, over an asyncpg connection or pool."""
    rows = await connection.fetch(_READ_TYPES)
    return [type_of_message(pb.Type.FromString(row["definition"])) for row in rows]


async def hold_types(connection: Any, suffixes: set[str]) -> Mapping[str, ResourceType]:
    """These types, which stay as they are until the transaction ends."""
    rows = await connection.fetch(_READ_TYPE_FOR_PUT, sorted(suffixes))
    return {row["suffix"]: type_of_message(pb.Type.FromString(row["definition"])) for row in rows}


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
