"""Resources in Postgres: puts, deletes, reads."""

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from services.catalog.details import parse_details
from services.catalog.feed import DRAWN
from services.catalog.ids import WHAT_AN_ID_IS, is_id
from services.catalog.index import MAX_DEPTH, Row
from services.catalog.resource_type import Indexed, ResourceType
from services.catalog.type_record import hold_types
from services.catalog.writing import Writing
from tally.contract.errors import InUse, InvalidRequest, Unavailable, VersionMismatch, Violation

MAX_BATCH = 1_000
MAX_EXTERNAL_ID_BYTES = 128
_PIECE = 20

# Rows that are there are locked in the order of their ids, and so are those that the insert meets.
_LOCK = """
select id, external_id, parent, keys, fingerprint, version from catalog.resource
where id = any($1::text[]) order by id for update"""
_PUT = """
insert into catalog.resource (id, suffix, external_id, details, parent, keys, scores, fingerprint)
select id, right(id, 1), external_id, details, parent, string_to_array(keys, chr(10)),
    string_to_array(scores, ' ', 'null')::double precision[], fingerprint
from unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::text[], $7::bytea[])
    as put (id, external_id, details, parent, keys, scores, fingerprint)
order by id
on conflict (id) do update set external_id = excluded.external_id, details = excluded.details,
    parent = excluded.parent, keys = excluded.keys, scores = excluded.scores, fingerprint = excluded.fingerprint,
    updated_at = greatest(now(), resource.updated_at)
returning id, xmax = 0 as is_new"""
# Two writers who hang one under the other, each without seeing the other's, would make a circle.
_LOCK_PARENTS = "select pg_advisory_xact_lock(7305811)"
_TOO_DEEP = """
with recursive above as (
    select id, parent, 0 as depth from catalog.resource where id = any($1::text[])
    union all
    select above.id, resource.parent, depth + 1 from above join catalog.resource on resource.id = above.parent
    where depth < $2 + 1
)
select id from above where depth >= $2 and parent is not null order by id limit 1"""
_DEEP_BELOW = """
with recursive below as (
    select id, 0 as depth from catalog.resource where id = any($1::text[])
    union all
    select resource.id, depth + 1 from below join catalog.resource on resource.parent = below.id where depth < $2
)
select array_agg(distinct id) from below"""
_FINISH_PUT = f"""
with {DRAWN}, versioned as (
    update catalog.resource set version = change from drawn where id = any($1::text[])
)
insert into catalog.change (change, kind, subject, removed, scores)
select change, 'put', id, string_to_array(removed, chr(10)), string_to_array(scores, ' ', 'null')::double precision[]
from drawn, unnest($1::text[], $2::text[], $3::text[]) as put (id, removed, scores)
returning change"""
_DELETE = "delete from catalog.resource where id = $1"
# Its rules stay: should it be made anew, it is hidden from the first instant.
_FINISH_DELETE = f"""
with {DRAWN}
insert into catalog.change (change, kind, subject, removed) select change, 'deleted', $1, $2 from drawn
returning change"""
_COLUMNS = """id, external_id, details, version, keys, parent, created_at, updated_at"""
_READ = f"select {_COLUMNS} from catalog.resource where id = any($1::text[])"
_READ_BY_EXTERNAL_ID = f"select {_COLUMNS} from catalog.resource where suffix = $1 and external_id = $2"
_READ_DETAILS = "select id, details, version from catalog.resource where id = any($1::text[])"
_READ_ROWS = "select id, parent, keys, scores, version from catalog.resource where id = any($1::text[])"
_READ_ALL_ROWS = """
select id, parent, keys, scores, version from catalog.resource where id > $1 order by id limit $2"""
_READ_PROJECTED = """
select id, keys, scores, version, details from catalog.resource where id = any($1::text[])"""
_READ_ALL_PROJECTED = """
select id, keys, scores, version, details from catalog.resource where id > $1 order by id limit $2"""


@dataclass(frozen=True, slots=True)
class Put:
    """A resource as a caller wants it to be stored."""

    id: str
    details: bytes
    external_id: str = ""
    expected_version: int | None = None
    """0: none; None: any"""


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a batch."""

    change: int
    """that stored it; the newest that any of it was stored by, if nothing differed"""
    changed: frozenset[str]
    versions: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Checked:
    put: Put
    indexed: Indexed
    fingerprint: bytes


async def put_resources(writing: Writing, puts: Sequence[Put]) -> Stored:
    """Store a batch, all of it or nothing.

    Raises InvalidRequest with paths that begin with `puts[i]`, VersionMismatch, and Unavailable.
    """
    _check_shape(puts)
    try:
        async with writing.transaction() as connection:
            checked = await _check(puts, await hold_types(connection, {put.id[-1] for put in puts}))
            return await _store(connection, checked)
    except asyncpg.UniqueViolationError as error:
        if "external_id" not in (error.constraint_name or ""):
            raise
        raise InvalidRequest([_external_id_is_taken(puts, error.detail or "")]) from error
    except asyncpg.ForeignKeyViolationError as error:
        raise InvalidRequest(
            [
                Violation(
                    "puts.resource.details",
                    f"name a parent that is not stored: {error.detail} Store the parent first",
                )
            ]
        ) from error


async def delete_resource(writing: Writing, resource_id: str, expected_version: int | None) -> int:
    """Remove a resource, but not its rules; the change that did, 0 if it was not there.

    Raises InUse while it has children, and VersionMismatch.
    """
    if not is_id(resource_id):
        raise InvalidRequest([Violation("id", WHAT_AN_ID_IS)])
    try:
        async with writing.transaction() as connection:
            rows = await connection.fetch(_LOCK, [resource_id])
            version = rows[0]["version"] if rows else 0
            if expected_version is not None and expected_version != version:
                raise _mismatch(resource_id, expected_version, version)
            if not rows:
                return 0
            await connection.execute(_DELETE, resource_id)
            change: int = await connection.fetchval(_FINISH_DELETE, resource_id, rows[0]["keys"])
            return change
    except asyncpg.ForeignKeyViolationError as error:
        raise InUse(
            f"{resource_id} has children, and children without a parent cannot be stored. Delete or move them first"
        ) from error


async def read_resources(connection: Any, ids: Sequence[str]) -> dict[str, Any]:
    """Rows of all there is to tell, by id, over an asyncpg connection or pool."""
    return {row["id"]: row for row in await connection.fetch(_READ, list(ids))}


async def read_by_external_id(connection: Any, suffix: str, external_id: str) -> Any:
    """The row of a resource by its name elsewhere; None if there is none."""
    return await connection.fetchrow(_READ_BY_EXTERNAL_ID, suffix, external_id)


async def read_details(connection: Any, ids: Sequence[str]) -> dict[str, tuple[bytes, int]]:
    """Details and versions, by id."""
    rows = await connection.fetch(_READ_DETAILS, list(ids))
    return {row["id"]: (row["details"], row["version"]) for row in rows}


async def read_rows(connection: Any, ids: Sequence[str]) -> dict[str, Row]:
    """What a view needs of these resources, by id; those that are gone are left out."""
    return {row["id"]: Row(*row) for row in await connection.fetch(_READ_ROWS, list(ids))}


async def read_all_rows(connection: Any, after: str, limit: int) -> list[Row]:
    """What a view needs of the resources behind an id, in the order of ids."""
    return [Row(*row) for row in await connection.fetch(_READ_ALL_ROWS, after, limit)]


async def read_projected(connection: Any, ids: Sequence[str]) -> dict[str, Any]:
    """What the projection has of these resources, by id."""
    return {row["id"]: row for row in await connection.fetch(_READ_PROJECTED, list(ids))}


async def read_all_projected(connection: Any, after: str, limit: int) -> list[Any]:
    """What the projection has of the resources behind an id."""
    rows: list[Any] = await connection.fetch(_READ_ALL_PROJECTED, after, limit)
    return rows


async def _store(connection: Any, checked: Sequence[_Checked]) -> Stored:
    ids = [each.put.id for each in checked]
    old = {row["id"]: row for row in await connection.fetch(_LOCK, ids)}
    for each in checked:
        expected, found = each.put.expected_version, old[each.put.id]["version"] if each.put.id in old else 0
        if expected is not None and expected != found:
            raise _mismatch(each.put.id, expected, found)
    differs = [
        each
        for each in checked
        if each.put.id not in old or old[each.put.id]["fingerprint"] != each.fingerprint
    ]
    versions = {name: row["version"] for name, row in old.items()}
    if not differs:
        return Stored(max(versions.values(), default=0), frozenset(), versions)
    has_moved = any(
        each.put.id in old and old[each.put.id]["parent"] != each.indexed.parent for each in differs
    )
    if has_moved:
        await connection.execute(_LOCK_PARENTS)
    rows = await connection.fetch(
        _PUT,
        [each.put.id for each in differs],
        [each.put.external_id or None for each in differs],
        [each.put.details for each in differs],
        [each.indexed.parent for each in differs],
        ["\n".join(each.indexed.keys) for each in differs],
        [_joined(each.indexed.scores) for each in differs],
        [each.fingerprint for each in differs],
    )
    for row in rows:
        if not row["is_new"] and row["id"] not in old:
            # It was put between the lock and the insert, and what it replaces is not known.
            raise Unavailable(f"{row['id']} was just stored by another writer; send the same again")
    await _check_depth(connection, [each for each in differs if each.indexed.parent is not None], has_moved)
    removed = [
        "\n".join(set(old[each.put.id]["keys"]).difference(each.indexed.keys)) if each.put.id in old else ""
        for each in differs
    ]
    changed = [each.put.id for each in differs]
    change: int = await connection.fetchval(
        _FINISH_PUT, changed, removed, [_joined(each.indexed.scores) for each in differs]
    )
    return Stored(change, frozenset(changed), {**versions, **dict.fromkeys(changed, change)})


async def _check_depth(connection: Any, checked: Sequence[_Checked], has_moved: bool) -> None:
    ids = [each.put.id for each in checked]
    if not ids:
        return
    if has_moved:
        ids = await connection.fetchval(_DEEP_BELOW, ids, MAX_DEPTH + 1)
    if (found := await connection.fetchval(_TOO_DEEP, ids, MAX_DEPTH)) is not None:
        raise InvalidRequest(
            [
                Violation(
                    "puts.resource.details",
                    f"would put {found} into a circle of parents, or more than {MAX_DEPTH} below the first one",
                )
            ]
        )


def _check_shape(puts: Sequence[Put]) -> None:
    wrong: list[Violation] = []
    if not 1 <= len(puts) <= MAX_BATCH:
        raise InvalidRequest([Violation("puts", f"must be 1 to {MAX_BATCH:,}, and are {len(puts):,}")])
    seen: set[str] = set()
    for index, put in enumerate(puts):
        field = f"puts[{index}].resource"
        if not is_id(put.id):
            wrong.append(Violation(f"{field}.id", WHAT_AN_ID_IS))
        elif put.id in seen:
            wrong.append(Violation(f"{field}.id", f"{put.id} is in the batch twice"))
        seen.add(put.id)
        if len(put.external_id.encode()) > MAX_EXTERNAL_ID_BYTES or not (
            put.external_id.isprintable() or not put.external_id
        ):
            wrong.append(
                Violation(
                    f"{field}.external_id",
                    f"must have at most {MAX_EXTERNAL_ID_BYTES} bytes, all of them printable characters",
                )
            )
    if wrong:
        raise InvalidRequest(wrong)


async def _check(puts: Sequence[Put], types: Mapping[str, ResourceType]) -> list[_Checked]:
    wrong: list[Violation] = []
    checked = []
    for index, put in enumerate(puts):
        if index % _PIECE == 0:
            await asyncio.sleep(0)
        field = f"puts[{index}].resource"
        of = types.get(put.id[-1])
        if of is None:
            wrong.append(
                Violation(f"{field}.id", f"no type has the suffix {put.id[-1]!r}; put the type first")
            )
            continue
        try:
            details = parse_details(put.details)
        except ValueError as error:
            wrong.append(Violation(f"{field}.details", str(error)))
            continue
        indexed = of.index(details)
        wrong += [Violation(f"{field}.{each.field}", each.description) for each in indexed.violations]
        checked.append(_Checked(put, indexed, _fingerprint(put, indexed)))
    if wrong:
        raise InvalidRequest(wrong)
    return checked


def _fingerprint(put: Put, indexed: Indexed) -> bytes:
    """Of all that is stored, not of the details alone."""
    rest = json.dumps([put.external_id, indexed.parent, indexed.keys, indexed.scores]).encode()
    return hashlib.blake2b(rest + b"\0" + put.details, digest_size=16).digest()


def _joined(scores: Sequence[float | None]) -> str:
    return " ".join("null" if score is None else repr(score) for score in scores)


def _mismatch(resource_id: str, expected: int, found: int) -> VersionMismatch:
    return VersionMismatch(
        f"{resource_id} has the version {found}, and {expected} was expected. Read it and decide again",
        metadata={"id": resource_id, "version": str(found)},
    )


def _external_id_is_taken(puts: Sequence[Put], detail: str) -> Violation:
    taken = (index for index, put in enumerate(puts) if put.external_id and f"{put.external_id})" in detail)
    index = next(taken, None)
    path = "puts" if index is None else f"puts[{index}]"
    return Violation(f"{path}.resource.external_id", f"is that of another resource of the type: {detail}")
