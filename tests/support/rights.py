"""A Postgres role for each service, with no more rights than its row of the table gives it."""

import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import asyncpg

from services.registry import SERVICES, Service

# Each process reads these to join its cluster; the shards raise the floor.
_JOINS = "grant select on public.schema_migration, public.cluster to {role}"
_KEEPS_FLOOR = "grant update (floor) on public.cluster to {role}"
_FLOOR_KEEPER = "counting"
# The owner, because partitions are attached by the owner of the table alone.
_OWN = """
do $$
declare
    statement text;
begin
    for statement in
        select format('alter schema %I owner to {role}', nspname) from pg_namespace where nspname = '{schema}'
        union all
        select format('alter table %s owner to {role}', oid::regclass)
        from pg_class where relnamespace = to_regnamespace('{schema}') and (relkind in ('r', 'p') or (
            relkind = 'S' and not exists (select from pg_depend where objid = pg_class.oid and deptype = 'i')
        ))
        union all
        select format('alter routine %s owner to {role}', oid::regprocedure)
        from pg_proc where pronamespace = to_regnamespace('{schema}')
    loop
        execute statement;
    end loop;
end $$"""
_READ = "grant usage on schema {schema} to {role}; grant select on all tables in schema {schema} to {role}"
_DROP = "reassign owned by {role} to current_user; drop owned by {role}; drop role {role}"


@asynccontextmanager
async def service_roles(
    dsn: str, changes: Mapping[str, frozenset[str]] | None = None
) -> AsyncIterator[Mapping[str, str]]:
    """Make the roles in a migrated database; yields the DSN of each service's by name. They are dropped at the end.

    A role owns the schema of its service, and may select from those that `Service.reads` declares. It has an
    empty `search_path`, so that a statement without the name of a schema fails. `changes`: other `reads` of a service.
    """
    suffix = uuid.uuid4().hex[:8]
    roles = {service.name: f"{service.name}_{suffix}" for service in SERVICES}
    connection = await asyncpg.connect(dsn)
    try:
        for service in SERVICES:
            await _make(
                connection, roles[service.name], service, (changes or {}).get(service.name, service.reads)
            )
        yield {name: as_role(dsn, role) for name, role in roles.items()}
    finally:
        for role in roles.values():
            await connection.execute(_DROP.format(role=role))
        await connection.close()


async def _make(connection: Any, role: str, service: Service, reads: frozenset[str]) -> None:
    await connection.execute(f"create role {role} login; alter role {role} set search_path = ''")
    await connection.execute(_JOINS.format(role=role))
    if service.name == _FLOOR_KEEPER:
        await connection.execute(_KEEPS_FLOOR.format(role=role))
    await connection.execute(_OWN.format(role=role, schema=service.name))
    for schema in reads:
        await connection.execute(_READ.format(role=role, schema=schema))


def as_role(dsn: str, role: str) -> str:
    """The DSN for another role, which has no password."""
    parts = urlsplit(dsn)
    place = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{quote(role)}:unused@{place}").geturl()
