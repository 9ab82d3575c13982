"""A reader that keeps its snapshot open while partitions of the journal come and go."""

import asyncio
import datetime as dt

import asyncpg

from services.counting.recovery.partitions import keep_partitions
from tally.contract.request_id import first_id_of
from tests.fault.table.scene import Scene

_AHEAD_HOURS = 48
_DAY_MS = 86_400_000
_DAYS = (1, 2)
_LONGEST_STALL_SECONDS = 1.0

_OLD = "journal_2001_01_0{day}"
_CREATE = "create table counting.{name} (like counting.journal including all)"
_ATTACH = (
    "alter table counting.journal attach partition counting.{name} for values from ('{first}') to ('{end}')"
)
_DETACH = "alter table counting.journal detach partition counting.{name} concurrently"
_DROP = "drop table counting.{name}"


async def hold_snapshot(scene: Scene) -> None:
    """Partitions are made ahead of time and below the floor, and the latter are detached and dropped."""
    reader = await asyncpg.connect(scene.deployment.dsn)
    upkeep = await asyncpg.connect(scene.deployment.dsn)
    leaving: asyncio.Task[None] | None = None
    try:
        async with reader.transaction(isolation="repeatable_read", readonly=True):
            count = await reader.fetchval("select count(*) from counting.journal")
            scene.strike()
            began = asyncio.get_running_loop().time()
            async with asyncpg.create_pool(scene.deployment.dsn, min_size=1, max_size=1) as pool:
                days = scene.chance.randint(2, 4)
                await keep_partitions(pool, ahead_hours=_AHEAD_HOURS + 24 * days)
            for day in _DAYS:
                await _attach_old(upkeep, day)
            leaving = asyncio.create_task(_let_go(upkeep))
            await scene.pause(3, 5)
            scene.expect(not leaving.done(), "a partition went away under a reader")
            scene.expect(
                await reader.fetchval("select count(*) from counting.journal") == count,
                "the reader saw more rows",
            )
            ended = asyncio.get_running_loop().time()
        # Whoever detaches waits for the readers that there are; those who count do not wait for him.
        async with asyncio.timeout(20):
            await leaving
    finally:
        if leaving:
            leaving.cancel()
        for connection in (reader, upkeep):
            connection.terminate()
    longest = scene.load.longest_stall(began, ended)
    scene.note(f"longest time without an answer {longest:.2f} s")
    scene.expect_alone(longest <= _LONGEST_STALL_SECONDS, f"nothing was acknowledged for {longest:.1f} s")


async def _attach_old(connection: asyncpg.Connection, day: int) -> None:
    """A partition of days that no id is of, as far below the floor as one gets."""
    name = _OLD.format(day=day)
    start_ms = int(dt.datetime(2001, 1, day, tzinfo=dt.UTC).timestamp()) * 1000
    await connection.execute(_CREATE.format(name=name))
    first, end = first_id_of(start_ms), first_id_of(start_ms + _DAY_MS)
    await connection.execute(_ATTACH.format(name=name, first=first, end=end))


async def _let_go(connection: asyncpg.Connection) -> None:
    for day in _DAYS:
        await connection.execute(_DETACH.format(name=_OLD.format(day=day)))
        await connection.execute(_DROP.format(name=_OLD.format(day=day)))
