"""The schema: numbered migrations, forward only, and the row that says what the cluster was created as."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from typing import Any

from libs.domain.errors import NotReady, PartitionCountMismatch
from libs.domain.horizon import floor_at

# The packages with a folder `migrations`, in the order in which they are applied, and what their names begin with in
# the table. They are named, not imported: nothing here depends on a service.
_FOLDERS = (("libs.stores", ""), ("services.scheduler", "scheduler/"))

# Any constant number will do; it keeps two migrations apart.
_LOCK = "select pg_advisory_xact_lock(7305801)"
_CREATE_TABLE = """
create table if not exists schema_migration (
    name       text primary key,
    applied_at timestamptz not null default now()
)"""
_APPLIED = "select name from schema_migration"
_MARK = "insert into schema_migration (name) values ($1)"
_IS_MIGRATED = "select to_regclass('schema_migration') is not null"
_NOW_MS = "select (extract(epoch from now()) * 1000)::bigint"
_CREATE_CLUSTER = """
insert into cluster (partition_count, floor) values ($1, $2)
on conflict (only_row) do nothing"""
_READ_CLUSTER = "select cluster_id, partition_count, epoch from cluster"


@dataclass(frozen=True, slots=True)
class Cluster:
    """What was decided when the cluster was created."""

    cluster_id: uuid.UUID
    partition_count: int
    epoch: int
    """Part of every cached key, as the id is; a restore raises it."""


async def migrate(
    connection: Any, partition_count: int, report: Callable[[str], None] | None = None
) -> Cluster:
    """Bring the schema up to date, in one transaction, and create the cluster's row if there is none.

    Harmless to repeat, and at the same time from several places. Raises PartitionCountMismatch when the
    cluster was created with another count.
    """
    async with connection.transaction():
        await connection.execute(_LOCK)
        await connection.execute(_CREATE_TABLE)
        applied = {row["name"] for row in await connection.fetch(_APPLIED)}
        for name, sql in _migrations():
            if name not in applied:
                await connection.execute(sql)
                await connection.execute(_MARK, name)
                if report:
                    report(name)
        await connection.execute(
            _CREATE_CLUSTER, partition_count, floor_at(await connection.fetchval(_NOW_MS))
        )
    return await read_cluster(connection, partition_count)


async def read_cluster(connection: Any, partition_count: int) -> Cluster:
    """Read what the cluster was created as, over a connection or pool.

    Raises NotReady when the schema is missing or old, and PartitionCountMismatch when the setting differs.
    """
    missing = [name for name, _ in _migrations()]
    if await connection.fetchval(_IS_MIGRATED):
        applied = {row["name"] for row in await connection.fetch(_APPLIED)}
        missing = [name for name in missing if name not in applied]
    if missing:
        raise NotReady(f"the database lacks {', '.join(missing)}. Run: tally migrate")
    row = await connection.fetchrow(_READ_CLUSTER)
    if row["partition_count"] != partition_count:
        raise PartitionCountMismatch(
            f"TALLY_PARTITION_COUNT is {partition_count}, and this cluster was created with "
            f"{row['partition_count']}. The count is fixed for the life of a cluster: set it to that"
        )
    return Cluster(row["cluster_id"], row["partition_count"], row["epoch"])


def _migrations() -> list[tuple[str, str]]:
    return [(f"{prefix}{name}", sql) for package, prefix in _FOLDERS for name, sql in _migrations_of(package)]


def _migrations_of(package: str) -> list[tuple[str, str]]:
    folder = resources.files(package) / "migrations"
    files = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name
    )
    return [(file.name.removesuffix(".sql"), file.read_text()) for file in files]
