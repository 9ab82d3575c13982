"""The feed of changes: numbers in the order of commits, whoever writes."""

import asyncio

import asyncpg

from services.catalog.feed import DRAWN, EPOCH_BITS
from tests.support.catalog import find_ids, prepare, rule, video
from tests.support.eventually import eventually
from tests.support.stack import Stack

_DRAW = f"""
with {DRAWN}
insert into catalog.change (change, kind, subject) select change, 'rules', $1 from drawn returning change"""


async def test_a_writer_that_commits_late_has_the_later_number(dsn: str) -> None:
    """T004-24: two writers cross, and whoever sees a number sees every number before it."""
    first, second = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
    try:
        transaction = first.transaction()
        await transaction.start()
        drawn = await first.fetchval(_DRAW, "first")
        waiting = asyncio.ensure_future(second.fetchval(_DRAW, "second"))

        async def is_waiting() -> bool:
            locks = await first.fetchval(
                "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
            )
            return bool(locks)

        await eventually(is_waiting)
        assert not waiting.done()
        await transaction.commit()
        assert await waiting == drawn + 1
    finally:
        await first.close()
        await second.close()


async def test_an_epoch_begins_above_every_number_before_a_restore(dsn: str) -> None:
    """T004-51, T004-40."""
    database = await asyncpg.connect(dsn)
    try:
        before = await database.fetchval(_DRAW, "before")
        await database.execute("update public.cluster set epoch = epoch + 1")
        after = await database.fetchval(_DRAW, "after")
        assert await database.fetchval(_DRAW, "more") == after + 1
    finally:
        await database.close()
    assert after >> EPOCH_BITS == (before >> EPOCH_BITS) + 1
    assert after > before


async def test_a_replica_reads_the_record_anew_when_it_was_restored(stack: Stack) -> None:
    """T004-40: here the epoch is raised below a running replica, which answers by the record as it is then."""
    client, catalog = stack.client, await prepare(stack.client)
    change = (await catalog.put("1v", video(1))).version
    assert await find_ids(client, min_change=change) == ["1v"]
    database = await asyncpg.connect(stack.dsn)
    try:
        async with database.transaction():
            await database.execute("update public.cluster set epoch = epoch + 1")
            await database.execute("delete from catalog.resource")
            await database.execute("delete from catalog.change")
    finally:
        await database.close()

    async def is_gone() -> bool:
        return await find_ids(client) == []

    await eventually(is_gone)


async def test_a_replica_behind_the_kept_changes_reads_the_record_anew(stack: Stack) -> None:
    """T004-51: it must not skip what it cannot see."""
    client, catalog = stack.client, await prepare(stack.client)
    for number in (1, 2):
        change = (await catalog.put(f"{number}v", video(number))).version
    assert await find_ids(client, min_change=change) == ["2v", "1v"]
    database = await asyncpg.connect(stack.dsn)
    try:
        # As if all this had happened while the replica slept, and a week had passed.
        async with database.transaction():
            await database.execute("delete from catalog.resource where id = '1v'")
            await database.execute(
                "update catalog.feed set last_change = last_change + 2, kept_after = last_change + 1"
            )
    finally:
        await database.close()

    async def is_so() -> bool:
        return await find_ids(client) == ["2v"]

    await eventually(is_so)
    assert (await catalog.put_rules("2v", [rule()])).confirmed_replicas == 1
    assert await find_ids(client) == []
