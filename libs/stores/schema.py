"""The schema: numbered migrations, forward only, and the row with the identity of the cluster.

Two tables belong to no service, and are in the Postgres schema `public`: `schema_migration` and `cluster`. Each service
has its tables in the schema of its name. A statement names the schema of each table; none relies on `search_path`.
"""

import asyncio
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from libs.domain.horizon import floor_at
from libs.stores.server_clock import read_clocks
from tally.contract.errors import NotReady, PartitionCountMismatch

# Any constant number will do; it keeps two migrations apart.
_LOCK = "select pg_advisory_xact_lock(7305801)"
# Migrations before counting/0007 name no schema. They work in `public`, or in the schema to which `search_path` led an
# earlier version.
_FIND_TABLES = """
select set_config('search_path', concat_ws(', ', (
    select relnamespace::regnamespace::text from pg_class
    where oid = coalesce(to_regclass('public.schema_migration'), to_regclass('schema_migration'))
), 'public', nullif(current_setting('search_path'), '')), true)"""
_TWO_SETS = """
select relnamespace::regnamespace::text || '.schema_migration' from pg_class
where oid = to_regclass('schema_migration') and oid <> to_regclass('public.schema_migration')"""
_MOVE_TABLE = "alter table if exists schema_migration set schema public"
_CREATE_TABLE = """
create table if not exists public.schema_migration (
    name       text primary key,
    applied_at timestamptz not null default now()
)"""
# Until there was more than one service with tables, names did not begin with that of the service.
_APPLIED = """
select case when position('/' in name) = 0 then 'counting/' || name else name end as name
from public.schema_migration"""
_NAME_OWNER = "update public.schema_migration set name = 'counting/' || name where position('/' in name) = 0"
_MARK = "insert into public.schema_migration (name) values ($1)"
_ENCODING = "select current_database() as name, current_setting('server_encoding') as encoding"
_IS_MIGRATED = "select to_regclass('public.schema_migration') is not null"
# For the whole migration, which may rewrite a large table. The server's limit for reads and upkeep does not apply.
_MIGRATION_SECONDS = 3600.0
_ATTEMPTS = 5
"""Of a migration that Postgres ends because of a deadlock with a service that runs."""
_NO_LIMIT = "set local statement_timeout = 0"
_READ_SECONDS = 30.0
_HAS_CLUSTER = "select exists (select from public.cluster)"
_CREATE_CLUSTER = """
insert into public.cluster (partition_count, floor) values ($1, $2)
on conflict (only_row) do nothing"""
_MOST_OFFSET_SECONDS = 300.0
_READ_CLUSTER = "select cluster_id, partition_count, epoch from public.cluster"


@dataclass(frozen=True, slots=True)
class Migration:
    """A step of the schema."""

    name: str
    """`counting/0001_counting`: the service that owns it, and its file"""
    sql: str


@dataclass(frozen=True, slots=True)
class Cluster:
    """What was decided when the cluster was created."""

    cluster_id: uuid.UUID
    partition_count: int
    epoch: int
    """Part of every cached key, as the id is; a restore raises it."""

    def difference_to(self, found: "Cluster") -> str:
        """Why a process of this cluster cannot use the database; empty: it can."""
        if found == self:
            return ""
        if found.cluster_id != self.cluster_id:
            return (
                f"this process belongs to cluster {self.cluster_id}, and TALLY_POSTGRES__DSN leads to cluster "
                f"{found.cluster_id}. Set the DSN right; or, if it is meant to be another cluster, set another "
                "TALLY_DATA_DIR, and look for a spool in the old one first"
            )
        if found.partition_count != self.partition_count:
            return (
                f"this process has cut entries for {self.partition_count} partitions, and the cluster has "
                f"{found.partition_count}. Set TALLY_PARTITION_COUNT to that"
            )
        return (
            f"the cluster was restored while this process served it (epoch {self.epoch}, now {found.epoch}). "
            "Start it again"
        )


async def migrate(
    connection: Any,
    partition_count: int,
    migrations: Sequence[Migration],
    report: Callable[[str], None] | None = None,
) -> Cluster:
    """Bring the schema up to date, in one transaction, and create the cluster's row if there is none.

    Harmless to repeat, and at the same time from several places. `report` gets the names of what was applied, after the
    commit. Raises NotReady when the database is not UTF8, has two sets of tables, a later version migrated it, or a new
    cluster cannot be sure of the time, and PartitionCountMismatch when the cluster was created with another count.
    """
    async with asyncio.timeout(_MIGRATION_SECONDS):
        for left in reversed(range(_ATTEMPTS)):
            try:
                applied = await _apply(connection, partition_count, migrations)
                break
            except asyncpg.DeadlockDetectedError:
                if not left:
                    raise
    if report:
        for name in applied:
            report(name)
    return await read_cluster(connection, partition_count, migrations)


async def _apply(connection: Any, partition_count: int, migrations: Sequence[Migration]) -> list[str]:
    """One attempt; the names of what was applied. Raises DeadlockDetectedError, and then nothing was."""
    async with connection.transaction():
        await _check_encoding(connection)
        await _refuse_two_sets(connection)
        await connection.execute(_NO_LIMIT)
        await connection.execute(_LOCK, timeout=_MIGRATION_SECONDS)
        await connection.execute(_FIND_TABLES)
        await connection.execute(_MOVE_TABLE)
        await connection.execute(_CREATE_TABLE)
        await connection.execute(_NAME_OWNER)
        applied = {row["name"] for row in await connection.fetch(_APPLIED)}
        refuse_later_schema(applied, migrations)
        missing = [migration for migration in migrations if migration.name not in applied]
        for migration in missing:
            await connection.execute(migration.sql, timeout=_MIGRATION_SECONDS)
            await connection.execute(_MARK, migration.name)
        if not await connection.fetchval(_HAS_CLUSTER):
            floor = floor_at(await _read_time_ms(connection))
            await connection.execute(_CREATE_CLUSTER, partition_count, floor)
    return [migration.name for migration in missing]


async def _read_time_ms(connection: Any) -> int:
    """The time, in ms since 1970-01-01 UTC, if Postgres's clock and this machine's are nearly the same: a floor that is
    too high refuses every write. Raises NotReady."""
    reading = await read_clocks(connection)
    if reading is None:
        raise NotReady("Postgres took more than a second to say what time it is. Run it again")
    if abs(reading.offset_seconds) > _MOST_OFFSET_SECONDS:
        raise NotReady(
            f"this machine's clock differs from Postgres's by {reading.offset_seconds:+,.0f} s, and a new cluster "
            "needs the right time. Set the wrong clock right and run it again"
        )
    return min(reading.postgres_us, reading.machine_us) // 1000


async def read_cluster(connection: Any, partition_count: int, migrations: Sequence[Migration]) -> Cluster:
    """Read what the cluster was created as, over a connection or pool.

    Raises NotReady when the database is not UTF8 or has two sets of tables, or the schema is missing, old, or of a
    later version, and PartitionCountMismatch when the setting differs.
    """
    missing = [migration.name for migration in migrations]
    async with asyncio.timeout(_READ_SECONDS):
        await _check_encoding(connection)
        await _refuse_two_sets(connection)
        if await connection.fetchval(_IS_MIGRATED):
            applied = {row["name"] for row in await connection.fetch(_APPLIED)}
            refuse_later_schema(applied, migrations)
            missing = [name for name in missing if name not in applied]
        if missing:
            raise NotReady(f"the database lacks {', '.join(missing)}. Run: tally migrate")
        cluster = await read_identity(connection)
    check_partition_count(cluster, partition_count)
    return cluster


async def read_identity(connection: Any) -> Cluster:
    """The cluster's row, of a database whose schema is known to be there."""
    row = await connection.fetchrow(_READ_CLUSTER, timeout=_READ_SECONDS)
    return Cluster(row["cluster_id"], row["partition_count"], row["epoch"])


def check_partition_count(cluster: Cluster, partition_count: int) -> None:
    """Raises PartitionCountMismatch when the setting differs from what the cluster was created with."""
    if cluster.partition_count != partition_count:
        raise PartitionCountMismatch(
            f"TALLY_PARTITION_COUNT is {partition_count}, and this cluster was created with "
            f"{cluster.partition_count}. The count is fixed for the life of a cluster: set it to that"
        )


async def _check_encoding(connection: Any) -> None:
    """Names are UTF-8. Another encoding has no room for most of them, and would refuse what is acknowledged already."""
    row = await connection.fetchrow(_ENCODING, timeout=_READ_SECONDS)
    if row["encoding"] != "UTF8":
        raise NotReady(
            f"the database {row['name']} has the encoding {row['encoding']}, and Tally needs UTF8. It cannot be "
            "changed: create another database (create database NAME encoding 'UTF8' template template0), and set "
            "TALLY_POSTGRES__DSN to it"
        )


async def _refuse_two_sets(connection: Any) -> None:
    """An earlier version used the tables to which `search_path` led; which of two sets has the counts is not known."""
    if other := await connection.fetchval(_TWO_SETS, timeout=_READ_SECONDS):
        raise NotReady(
            f"the database has two sets of Tally's tables: that of public.schema_migration, and that of {other}, to "
            "which the search_path of this connection leads. Find the set that has the counts. If it is that in "
            "public, take the other schema out of the search_path (alter role, alter database, or the options of the "
            "DSN). Otherwise rename public and the schemas of the services (alter schema NAME rename to ANOTHER), "
            "create an empty public, and run: tally migrate"
        )


def refuse_later_schema(applied: Iterable[str], migrations: Sequence[Migration]) -> None:
    """Raise NotReady when the database has migrations that this version does not know: a later one wrote it."""
    unknown = sorted(set(applied) - {migration.name for migration in migrations})
    if unknown:
        raise NotReady(
            f"the schema of the database is of a later version of Tally ({', '.join(unknown)}), and this version does "
            "not know what that means. Use that version, or a database of its own"
        )
