"""The source's TransactionManager: every write to the region's own rows.

The location's row is locked first, shared for puts and exclusively for whatever deletes, so that a version that is
drawn later belongs to a state that is seen later. A bulk commit writes its rows, and the location's row with them, in
one transaction: that row is the event, and no log has a row per entry.
"""

import asyncio
import uuid
from collections.abc import AsyncIterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from libs.stores.postgres import PostgresSettings, connect, reaching_postgres, time_limits
from services.replication.passes import location_of
from services.replication.rows import EntryRow, LocationRow, to_time
from tally.contract.errors import InvalidRequest, NotFound, Violation

_PUT_LOCATION = """
insert into replication.location (uuid, kind, origin) values ($1, $2, $3)
on conflict (uuid) do update set kind = excluded.kind, origin = excluded.origin
    where (location.kind, location.origin) is distinct from (excluded.kind, excluded.origin)"""
_IS_OF_ANOTHER = "select exists (select from replication.received_location where uuid = $1)"
_READ_LOCATION = """
select uuid, kind, origin, entry_count, indexed_at, version from replication.location where uuid = $1"""
_SHARE_LOCATION = "select from replication.location where uuid = $1 for share"
_TAKE_LOCATION = "select from replication.location where uuid = $1 for update"
_DELETE_ENTRIES = "delete from replication.entry where location = $1 and uuid = any($2::uuid[])"
# Each row gets a tombstone of its own: a peer may not know yet that a child was moved elsewhere (T003-23).
_DELETE_SUBTREES = """
with recursive gone as (
    select uuid from replication.entry where location = $1 and uuid = any($2::uuid[])
    union
    select entry.uuid from replication.entry join gone on entry.parent = gone.uuid where entry.location = $1
)
delete from replication.entry using gone where entry.uuid = gone.uuid"""
_COUNT_ENTRIES = "select count(*) from replication.entry where location = $1"
_DELETE_LOCATION = "delete from replication.location where uuid = $1"

_NAMES = ("uuid", "parent", "kind", "name", "size_bytes", "modified_at", "fingerprint", "details")
_STAGE = """
create temp table staged (
    uuid uuid primary key, parent uuid, kind text not null, name text not null, size_bytes bigint not null,
    modified_at timestamptz not null, fingerprint bytea not null, details text not null
)"""
_UPSERT = """
insert into replication.entry (
    uuid, location, parent, kind, name, size_bytes, modified_at, fingerprint, details, version, changed
)
select uuid, $1, parent, kind, name, size_bytes, modified_at, fingerprint, details, 0, '0'::xid8 from {source}
order by uuid
on conflict (uuid) do update set
    location = excluded.location, parent = excluded.parent, kind = excluded.kind, name = excluded.name,
    size_bytes = excluded.size_bytes, modified_at = excluded.modified_at, fingerprint = excluded.fingerprint,
    details = excluded.details
where (entry.location, entry.parent, entry.kind, entry.name, entry.size_bytes, entry.modified_at, entry.fingerprint,
    entry.details)
    is distinct from (excluded.location, excluded.parent, excluded.kind, excluded.name, excluded.size_bytes,
    excluded.modified_at, excluded.fingerprint, excluded.details)"""
_UPSERT_STAGED = _UPSERT.format(source="staged")
_UPSERT_GIVEN = _UPSERT.format(
    source="unnest($2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::bigint[], $7::timestamptz[], $8::bytea[], "
    "$9::text[]) as given (uuid, parent, kind, name, size_bytes, modified_at, fingerprint, details)"
)
_DELETE_REST = """
delete from replication.entry
where location = $1 and not exists (select from staged where staged.uuid = entry.uuid)"""
_STRAY_PARENT = """
select uuid, parent from replication.entry
where location = $1 and parent is not null
    and not exists (select from replication.entry as p where p.uuid = entry.parent and p.location = $1)
limit 1"""
_STRAY_GIVEN = _STRAY_PARENT.replace("where location = $1", "where location = $1 and uuid = any($2::uuid[])")
_INDEXED = """
update replication.location set
    entry_count = (select count(*) from replication.entry where location = $1), indexed_at = now(), strategy = $2
where uuid = $1
returning uuid, kind, origin, entry_count, indexed_at, version"""


@dataclass(frozen=True, slots=True)
class Committed:
    """What a bulk commit has changed."""

    location: LocationRow
    written: int
    deleted: int


class TransactionManager:
    """Writes the region's own locations and entries."""

    def __init__(self, pool: Any, dsn: str, postgres: PostgresSettings, seconds: float) -> None:
        """`seconds`: how long a bulk commit may take."""
        self._pool = pool
        self._dsn = dsn
        self._postgres = postgres
        self._seconds = seconds

    async def put_location(self, location: uuid.UUID, kind: str, origin: str) -> LocationRow:
        """Create or change a location. Raises InvalidRequest when it is another region's."""
        with reaching_postgres():
            if await self._pool.fetchval(_IS_OF_ANOTHER, location):
                raise _invalid("location_id", "belongs to another region, and only that one may write it")
            await self._pool.execute(_PUT_LOCATION, location, kind, origin)
            return location_of(await self._pool.fetchrow(_READ_LOCATION, location))

    async def put_entries(self, location: uuid.UUID, entries: Sequence[EntryRow]) -> int:
        """Create or change entries; how many rows were written. Raises NotFound, InvalidRequest."""
        with reaching_postgres(), _refusing_rows():
            async with self._pool.acquire() as connection, connection.transaction():
                if await connection.fetchrow(_SHARE_LOCATION, location) is None:
                    raise no_location(location)
                status = await connection.execute(
                    _UPSERT_GIVEN, location, *zip(*map(_values, entries), strict=True)
                )
                keys = [entry.uuid for entry in entries]
                _refuse_stray(await connection.fetchrow(_STRAY_GIVEN, location, keys))
        return _count(status)

    async def delete_entries(
        self, location: uuid.UUID, keys: Sequence[uuid.UUID], *, with_descendants: bool = False
    ) -> int:
        """Delete entries, or them and all that is below them; how many there were. Raises NotFound."""
        statement = _DELETE_SUBTREES if with_descendants else _DELETE_ENTRIES
        with reaching_postgres():
            async with self._pool.acquire() as connection, connection.transaction():
                if await connection.fetchrow(_TAKE_LOCATION, location) is None:
                    raise no_location(location)
                return _count(await connection.execute(statement, location, list(keys)))

    async def delete_location(self, location: uuid.UUID) -> int:
        """Delete a location with its entries; how many it had. Raises NotFound."""
        with reaching_postgres():
            async with self._pool.acquire() as connection, connection.transaction():
                if await connection.fetchrow(_TAKE_LOCATION, location) is None:
                    raise no_location(location)
                entries: int = await connection.fetchval(_COUNT_ENTRIES, location)
                await connection.execute(_DELETE_LOCATION, location)
                return entries

    async def commit_bulk_entries(
        self,
        location: uuid.UUID,
        pages: AsyncIterable[Sequence[EntryRow]],
        *,
        complete: bool,
        strategy: str | None = None,
    ) -> Committed:
        """Stage pages as they come, then write them in one transaction. Rows that are as they were are not written.

        `complete`: the location has nothing else, and what it has besides is deleted. Staging holds no transaction
        open. Raises NotFound, InvalidRequest.
        """
        with reaching_postgres(), _refusing_rows():
            connection = await connect(
                self._dsn,
                self._postgres,
                "tally replication bulk commit",
                statement_timeout=f"{int(self._seconds * 1000)}ms",
                **time_limits(self._seconds),
            )
            try:
                await connection.execute(_STAGE, timeout=self._seconds)
                async for page in pages:
                    await connection.copy_records_to_table(
                        "staged", records=map(_values, page), columns=_NAMES, timeout=self._seconds
                    )
                async with asyncio.timeout(self._seconds), connection.transaction():
                    return await _commit(connection, location, complete=complete, strategy=strategy)
            finally:
                connection.terminate()


async def _commit(connection: Any, location: uuid.UUID, *, complete: bool, strategy: str | None) -> Committed:
    if await connection.fetchrow(_TAKE_LOCATION, location) is None:
        raise no_location(location)
    deleted = _count(await connection.execute(_DELETE_REST, location)) if complete else 0
    written = _count(await connection.execute(_UPSERT_STAGED, location))
    _refuse_stray(await connection.fetchrow(_STRAY_PARENT, location))
    return Committed(location_of(await connection.fetchrow(_INDEXED, location, strategy)), written, deleted)


@contextmanager
def _refusing_rows() -> Iterator[None]:
    """Convert refusals of the tables to errors for the caller."""
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        raise _invalid("entries", "a key occurs twice") from error
    except asyncpg.IntegrityConstraintViolationError as error:
        raise _invalid("entries", str(error)) from error


def no_location(location: uuid.UUID) -> NotFound:
    """The error of a location that this region does not have."""
    return NotFound(f"this region has no location {location}; `tally locations list` lists the existing ones")


def _values(entry: EntryRow) -> tuple[Any, ...]:
    return (
        entry.uuid,
        entry.parent,
        entry.kind,
        entry.name,
        entry.size_bytes,
        to_time(entry.modified_us),
        entry.fingerprint,
        entry.details,
    )


def _count(status: str) -> int:
    return int(status.rpartition(" ")[2])


def _refuse_stray(row: Any) -> None:
    if row is not None:
        raise _invalid(
            "parent_id", f"of entry {row['uuid']}: {row['parent']} is no entry of the same location"
        )


def _invalid(field: str, description: str) -> InvalidRequest:
    return InvalidRequest([Violation(field, description)])
