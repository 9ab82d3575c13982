"""Puts of resources."""

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
from services.catalog.index import MAX_DEPTH
from services.catalog.resource_type import Indexed
from services.catalog.type_record import HeldType, hold_types
from services.catalog.writing import Writing
from tally.contract.errors import InvalidRequest, Unavailable, VersionMismatch, Violation

MAX_BATCH = 1_000
MAX_EXTERNAL_ID_BYTES = 128
_PIECE = 20

# Existing rows are locked in the order of their ids, and so are those with which the insert conflicts.
_LOCK = """
select id, external_id, parent, keys, fingerprint, version from catalog.resource
where id = any($1::text[]) order by id for update"""
_PUT = """
insert into catalog.resource (id, suffix, external_id, details, parent, keys, scores, fingerprint, layout)
select id, right(id, 1), external_id, details, parent, string_to_array(keys, chr(10)),
    string_to_array(scores, ' ', 'null')::double precision[], fingerprint, layout
from unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::text[], $7::bytea[], $8::integer[])
    as put (id, external_id, details, parent, keys, scores, fingerprint, layout)
order by id
on conflict (id) do update set external_id = excluded.external_id, details = excluded.details,
    parent = excluded.parent, keys = excluded.keys, scores = excluded.scores, fingerprint = excluded.fingerprint,
    layout = excluded.layout, updated_at = greatest(now(), resource.updated_at)
returning id, xmax = 0 as is_new"""
# Two writers who hang one under the other, each without seeing the other's, would make a circle; one that hangs
# something below what another moves would make it too deep.
_MOVE_PARENTS = "select pg_advisory_xact_lock(7305811)"
_KEEP_PARENTS = "select pg_advisory_xact_lock_shared(7305811)"
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
), fits as (
    delete from catalog.misfit where id = any($1::text[])
)
insert into catalog.change (change, kind, subject, removed, scores, layout)
select change, 'put', id, string_to_array(removed, chr(10)), string_to_array(scores, ' ', 'null')::double precision[],
    layout
from drawn, unnest($1::text[], $2::text[], $3::text[], $4::integer[]) as put (id, removed, scores, layout)
returning change"""


@dataclass(frozen=True, slots=True)
class Put:
    """A resource to be stored."""

    id: str
    details: bytes
    external_id: str = ""
    expected_version: int | None = None
    """0: none; None: any"""


@dataclass(frozen=True, slots=True)
class Stored:
    """The outcome of a batch."""

    change: int
    """that stored it; the newest that any of it was stored by, if nothing differed"""
    changed: frozenset[str]
    versions: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Checked:
    put: Put
    indexed: Indexed
    layout: int
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


async def _store(connection: Any, checked: Sequence[_Checked]) -> Stored:
    ids = [each.put.id for each in checked]
    old = {row["id"]: row for row in await connection.fetch(_LOCK, ids)}
    for each in checked:
        expected, found = each.put.expected_version, old[each.put.id]["version"] if each.put.id in old else 0
        if expected is not None and expected != found:
            raise make_mismatch(each.put.id, expected, found)
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
    below = [each.put.id for each in differs if each.indexed.parent is not None]
    if below or has_moved:
        await lock_parents(connection, is_moved=has_moved)
    rows = await connection.fetch(
        _PUT,
        [each.put.id for each in differs],
        [each.put.external_id or None for each in differs],
        [each.put.details for each in differs],
        [each.indexed.parent for each in differs],
        ["\n".join(each.indexed.keys) for each in differs],
        [join_scores(each.indexed.scores) for each in differs],
        [each.fingerprint for each in differs],
        [each.layout for each in differs],
    )
    for row in rows:
        if not row["is_new"] and row["id"] not in old:
            # It was put between the lock and the insert, and what it replaces is not known.
            raise Unavailable(f"{row['id']} was just stored by another writer; send the same again")
    await check_depth(connection, below, has_moved=has_moved)
    removed = [
        "\n".join(set(old[each.put.id]["keys"]).difference(each.indexed.keys)) if each.put.id in old else ""
        for each in differs
    ]
    changed = [each.put.id for each in differs]
    change: int = await connection.fetchval(
        _FINISH_PUT,
        changed,
        removed,
        [join_scores(each.indexed.scores) for each in differs],
        [each.layout for each in differs],
    )
    return Stored(change, frozenset(changed), {**versions, **dict.fromkeys(changed, change)})


async def lock_parents(connection: Any, *, is_moved: bool) -> None:
    """Let no other transaction move resources to other parents until this one ends.

    `is_moved`: this one does so itself, and then no other may put a resource below any parent either.
    """
    await connection.execute(_MOVE_PARENTS if is_moved else _KEEP_PARENTS)


async def check_depth(connection: Any, ids: Sequence[str], *, has_moved: bool) -> None:
    """Raises InvalidRequest when resources that were put are in a circle of parents, or too deep.

    `has_moved`: some of them have changed their parents, and all that is below them is looked at.
    """
    if ids and has_moved:
        ids = await connection.fetchval(_DEEP_BELOW, ids, MAX_DEPTH + 1)
    if ids and (found := await connection.fetchval(_TOO_DEEP, ids, MAX_DEPTH)) is not None:
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


async def _check(puts: Sequence[Put], types: Mapping[str, HeldType]) -> list[_Checked]:
    wrong: list[Violation] = []
    checked = []
    for index, put in enumerate(puts):
        if index % _PIECE == 0:
            await asyncio.sleep(0)
        field = f"puts[{index}].resource"
        held = types.get(put.id[-1])
        if held is None:
            wrong.append(
                Violation(f"{field}.id", f"no type has the suffix {put.id[-1]!r}; put the type first")
            )
            continue
        try:
            details = parse_details(put.details)
        except ValueError as error:
            wrong.append(Violation(f"{field}.details", str(error)))
            continue
        indexed = held.type.index(details)
        wrong += [Violation(f"{field}.{each.field}", each.description) for each in indexed.violations]
        fingerprint = make_fingerprint(put.external_id, put.details, indexed)
        checked.append(_Checked(put, indexed, held.layout, fingerprint))
    if wrong:
        raise InvalidRequest(wrong)
    return checked


def make_fingerprint(external_id: str, details: bytes, indexed: Indexed) -> bytes:
    """A fingerprint of everything that is stored, not only of the details."""
    rest = json.dumps([external_id, indexed.parent, indexed.keys, indexed.scores]).encode()
    return hashlib.blake2b(rest + b"\0" + details, digest_size=16).digest()


def join_scores(scores: Sequence[float | None]) -> str:
    """Scores as one text, in which a statement for many rows takes them."""
    return " ".join("null" if score is None else repr(score) for score in scores)


def make_mismatch(resource_id: str, expected: int, found: int) -> VersionMismatch:
    """The refusal of a write that expects another version."""
    return VersionMismatch(
        f"{resource_id} has the version {found}, and {expected} was expected. Read it and decide again",
        metadata={"id": resource_id, "version": str(found)},
    )


def _external_id_is_taken(puts: Sequence[Put], detail: str) -> Violation:
    taken = (index for index, put in enumerate(puts) if put.external_id and f"{put.external_id})" in detail)
    index = next(taken, None)
    path = "puts" if index is None else f"puts[{index}]"
    return Violation(f"{path}.resource.external_id", f"is that of another resource of the type: {detail}")
