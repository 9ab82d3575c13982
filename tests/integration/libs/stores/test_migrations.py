"""A database of an earlier version is brought up to date with what is in it."""

from importlib import resources
from typing import Any

import asyncpg

from libs.stores.schema import migrate
from services.migrations import list_migrations
from tests.support.database import PARTITION_COUNT
from tests.support.proof import find_wrong
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
_OLD_FLUSH = (
    "update checkpoint set applied_seq = 4 where log_id = 1 and consumer = 'rollups' and applied_seq = 3"
)


async def test_positions_and_replays_of_before_are_carried_over(servers: Servers) -> None:
    async with fresh_database(servers.postgres_dsn) as dsn:
        connection = await asyncpg.connect(dsn)
        try:
            await _set_up_earlier(connection)
            await migrate(connection, PARTITION_COUNT, list_migrations())
            assert await find_wrong(connection) == []
            # A shard of the earlier version, which is replaced after the migration, goes on until then.
            assert await connection.execute(_OLD_FLUSH) == "UPDATE 1"
        finally:
            await connection.close()


async def _set_up_earlier(connection: Any) -> None:
    await connection.execute(
        "create table schema_migration (name text primary key, applied_at timestamptz not null default now())"
    )
    for name in _BEFORE:
        await connection.execute(
            (resources.files("services.counting") / "migrations" / f"{name}.sql").read_text()
        )
        await connection.execute("insert into schema_migration (name) values ($1)", name)
    await connection.execute(_CLUSTER, PARTITION_COUNT)
    await connection.execute(_FILL)
