"""A database of an earlier version is brought up to date with what is in it, and is of no more use to that version."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

import asyncpg
import pytest

from libs.stores.schema import Migration, migrate, read_cluster
from libs.stores.write_connection import is_of_the_data
from services.migrations import list_migrations
from tally.contract.errors import NotReady
from tests.support.database import PARTITION_COUNT
from tests.support.eventually import eventually
from tests.support.proof import find_wrong
from tests.support.rollups import read_counts
from tests.support.servers import Servers, fresh_database

_BEFORE = ("0001_counting", "0002_dead_letters", "0003_room_for_updates")
_CLUSTER = "insert into cluster (partition_count, floor) values ($1, '00000000-0000-0000-0000-000000000000')"
# Three entries of 2, 3 and 5 events: one applied, one dropped as a letter, one replayed.
_FILL = """
create table journal_all partition of journal default;
insert into log (log_id, shard, pids, floor, opening_floor, state)
    select 1, 'a', '{}', floor, floor, 'settled' from cluster;
insert into checkpoint (log_id, consumer, applied_seq, generation) values (1, 'rollups', 3, 1);
insert into journal (request_id, partition, log_id, seq, received_at, events, request_hash, payload)
    select gen_random_uuid(), 0, 1, seq, now(), events, 0, ''
    from (values (1, 2), (2, 3), (3, 5)) as entry (seq, events);
insert into dead_letter (request_id, partition, log_id, seq, received_at, events, request_hash, payload, reason,
        state, decided_at, generation)
    select request_id, partition, log_id, seq, received_at, events, request_hash, payload, '',
        case seq when 2 then 'dropped' else 'replayed' end, now(), case seq when 3 then 1 end
    from journal where seq > 1;
insert into flush_log (log_id, from_seq, to_seq, generation, events, cells)
    values (1, 0, 1, 1, 2, 1), (1, 1, 3, 1, 0, 0);
insert into rollup_minute (generation, video_id, event_type, minute, count) values (1, 'video', 'view', 1, 2 + 5)"""
# What shards leave that are interrupted while they drop empty partitions: a table that is none any more.
_INTERRUPT = "create table journal_2020_01_02 (like journal including all)"
_OF_NO_SERVICE = """
select relname as name from pg_class where relnamespace in (select oid from pg_namespace where nspname in
    ('public', 'elsewhere'))
union all select proname from pg_proc where pronamespace in (select oid from pg_namespace where nspname in
    ('public', 'elsewhere'))"""
# What a flush does; the last statement locks the row of the log, by a foreign key.
_BEGIN_FLUSH = "update checkpoint set applied_seq = 4 where log_id = 1"
_FLUSH = (
    "insert into rollup_minute (generation, video_id, event_type, minute, count) values (1, 'video', 'view', 2, 1)",
    "insert into flush_log (log_id, from_seq, to_seq, generation, events, cells) values (1, 3, 4, 1, 1, 1)",
)
# The same after the move.
_MOVED_FLUSH = (
    "update counting.checkpoint set applied_seq = 4 where log_id = 1",
    *(each.replace("into ", "into counting.") for each in _FLUSH),
)
_WAITS = "select exists (select from pg_locks where pid = $1 and not granted)"
_OLD_STATEMENTS = (
    "create table journal_2100_01_01 (like journal including all)",
    "insert into log (log_id, shard, pids, floor, opening_floor) select 2, 'b', '{}', floor, floor from cluster",
    "update checkpoint set applied_seq = 4 where log_id = 1 and consumer = 'rollups' and applied_seq = 3",
)


@asynccontextmanager
async def _earlier_database(servers: Servers, search_path: str = "") -> AsyncIterator[Any]:
    """A connection to a database of before that is not migrated yet; with a schema to which `search_path` leads."""
    async with fresh_database(servers.postgres_dsn) as dsn:
        connection = await asyncpg.connect(dsn)
        try:
            if search_path:
                await connection.execute(f"create schema {search_path}; set search_path = {search_path}")
            await _set_up_earlier(connection)
            yield connection
        finally:
            await connection.close()


async def test_positions_and_replays_of_before_are_carried_over(servers: Servers) -> None:
    async with _earlier_database(servers) as connection:
        await migrate(connection, PARTITION_COUNT, list_migrations())
        assert await find_wrong(connection) == []


@pytest.mark.parametrize("search_path", ["", "elsewhere"])
async def test_everything_of_counting_moves_into_its_schema(servers: Servers, search_path: str) -> None:
    async with _earlier_database(servers, search_path) as connection:
        cluster_id = await connection.fetchval("select cluster_id from cluster")
        await connection.execute(_INTERRUPT)
        await migrate(connection, PARTITION_COUNT, list_migrations())
        assert {row["name"] for row in await connection.fetch(_OF_NO_SERVICE)} == {
            *("cluster", "cluster_pkey"),
            *("schema_migration", "schema_migration_pkey"),
        }
        assert await connection.fetchval("select to_regclass('counting.journal_2020_01_02') is not null")
        assert await connection.fetchval("select counting.square_of(counting.mean_of(6, 2))") == 9
        assert (await read_cluster(connection, PARTITION_COUNT, list_migrations())).cluster_id == cluster_id
        assert await connection.fetchval("show search_path") == (search_path or '"$user", public')
        repeated: list[str] = []
        await migrate(connection, PARTITION_COUNT, list_migrations(), repeated.append)
        assert repeated == []


async def test_a_version_of_before_finds_no_table_to_write_to_and_makes_none(servers: Servers) -> None:
    async with _earlier_database(servers) as connection:
        await migrate(connection, PARTITION_COUNT, list_migrations())
        known = [each for each in list_migrations() if each.name != "counting/0007_own_schema"]
        for use in (migrate, read_cluster):
            with pytest.raises(NotReady, match=r"of a later version of Tally \(counting/0007_own_schema\)"):
                await use(connection, PARTITION_COUNT, known)
        for statement in _OLD_STATEMENTS:
            with pytest.raises(asyncpg.UndefinedTableError):
                await connection.execute(statement)
        # The first versions did not look for later ones, and named their migrations differently.
        with pytest.raises(asyncpg.DuplicateTableError, match='"cluster" already exists'):
            await connection.execute(_read("0001_counting"))


async def test_a_flush_of_a_running_older_shard_and_the_move_wait_for_each_other_but_not_in_a_circle(
    servers: Servers,
) -> None:
    async with _earlier_database(servers) as connection, _another(connection, servers) as shard:
        await migrate(connection, PARTITION_COUNT, _until("0006_dropped_partitions"))
        # In a deadlock Postgres would end the flush, not the migration.
        await connection.execute("set deadlock_timeout = '1h'")
        await shard.execute("set deadlock_timeout = '20ms'")
        async with asyncio.TaskGroup() as group, shard.transaction():
            await shard.execute(_BEGIN_FLUSH)
            group.create_task(migrate(connection, PARTITION_COUNT, _until("0007_own_schema")))

            async def is_waiting() -> bool:
                return bool(await shard.fetchval(_WAITS, connection.get_server_pid()))

            await eventually(is_waiting)
            for statement in _FLUSH:
                await shard.execute(statement)
        assert await connection.fetchval("select max(to_seq) from counting.flush_log") == 4


async def test_a_running_version_without_blocks_ends_its_flush_and_finds_no_rollups_any_more(
    servers: Servers,
) -> None:
    """It would read counts without the blocks, and replication would pass over them."""
    async with _earlier_database(servers) as connection, _another(connection, servers) as shard:
        await migrate(connection, PARTITION_COUNT, _until("0007_own_schema"))
        await connection.execute("set deadlock_timeout = '1h'")
        await shard.execute("set deadlock_timeout = '20ms'")
        async with asyncio.TaskGroup() as group, shard.transaction():
            await shard.execute(_MOVED_FLUSH[0])
            await shard.execute(_MOVED_FLUSH[1])
            group.create_task(migrate(connection, PARTITION_COUNT, list_migrations()))

            async def is_waiting() -> bool:
                return bool(await shard.fetchval(_WAITS, connection.get_server_pid()))

            await eventually(is_waiting)
            await shard.execute(_MOVED_FLUSH[2])
        assert (await read_counts(connection)) == {("video", "view"): 2 + 5 + 1}
        for statement in (_MOVED_FLUSH[1], "select from counting.rollup_minute"):
            with pytest.raises(asyncpg.UndefinedTableError) as refused:
                await shard.execute(statement)
            assert not is_of_the_data(refused.value)  # the shard retries it, and makes no dead letter
        known = [each for each in list_migrations() if each.name != "counting/0008_blocks"]
        with pytest.raises(NotReady, match=r"of a later version of Tally \(counting/0008_blocks\)"):
            await read_cluster(connection, PARTITION_COUNT, known)


@pytest.mark.parametrize(("deadlocks", "is_migrated"), [(4, True), (5, False)])
async def test_a_migration_that_a_deadlock_ends_is_repeated_a_few_times(
    servers: Servers, deadlocks: int, is_migrated: bool
) -> None:
    # A sequence goes on when its transaction is rolled back.
    deadlock = Migration(
        "counting/9999_deadlock",
        f"""
        create table made (number integer);
        do $$ begin
            if nextval('attempts') <= {deadlocks} then
                raise exception using errcode = 'deadlock_detected';
            end if;
        end $$""",
    )
    async with fresh_database(servers.postgres_dsn) as dsn:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute("create sequence attempts")
            migrations, reported = [*_until("0007_own_schema"), deadlock], list[str]()
            if is_migrated:
                await migrate(connection, PARTITION_COUNT, migrations, reported.append)
            else:
                with pytest.raises(asyncpg.DeadlockDetectedError):
                    await migrate(connection, PARTITION_COUNT, migrations, reported.append)
            assert reported == ([each.name for each in migrations] if is_migrated else [])
            assert await connection.fetchval("select last_value from attempts") == 5
        finally:
            await connection.close()


async def test_two_sets_of_tables_in_one_database_are_refused_until_one_is_out_of_the_way(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("create schema elsewhere; set search_path = elsewhere")
        await _set_up_earlier(connection)
        for use in (migrate, read_cluster):
            with pytest.raises(
                NotReady, match=r"public\.schema_migration, and that of elsewhere\.schema_migration"
            ):
                await use(connection, PARTITION_COUNT, list_migrations())
        of_public = await connection.fetchval("select cluster_id from public.cluster")
        await connection.execute("set search_path = public")
        assert (await read_cluster(connection, PARTITION_COUNT, list_migrations())).cluster_id == of_public
        for name in {"public", *(each.name.split("/")[0] for each in list_migrations())}:
            await connection.execute(f"alter schema {name} rename to {name}_before")
        await connection.execute("create schema public; set search_path = elsewhere")
        assert (await migrate(connection, PARTITION_COUNT, list_migrations())).cluster_id != of_public
    finally:
        await connection.close()


async def test_the_schema_may_be_there_before_the_move(servers: Servers) -> None:
    async with _earlier_database(servers) as connection:
        await connection.execute("create schema counting")
        await migrate(connection, PARTITION_COUNT, list_migrations())


@asynccontextmanager
async def _another(connection: Any, servers: Servers) -> AsyncIterator[Any]:
    """A second connection to the database of the first."""
    name = await connection.fetchval("select current_database()")
    second = await asyncpg.connect(servers.postgres_dsn, database=name)
    try:
        yield second
    finally:
        await second.close()


def _until(name: str) -> list[Migration]:
    """The migrations of counting up to this one."""
    return [each for each in list_migrations() if "counting/" <= each.name <= f"counting/{name}"]


async def _set_up_earlier(connection: Any) -> None:
    await connection.execute(
        "create table schema_migration (name text primary key, applied_at timestamptz not null default now())"
    )
    for name in _BEFORE:
        await connection.execute(_read(name))
        await connection.execute("insert into schema_migration (name) values ($1)", name)
    await connection.execute(_CLUSTER, PARTITION_COUNT)
    await connection.execute(_FILL)


def _read(name: str) -> str:
    return (resources.files("services.counting") / "migrations" / f"{name}.sql").read_text()
