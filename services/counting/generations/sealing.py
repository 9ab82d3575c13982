"""Sealing: from then on nothing is written to a generation.

Any shard may do any step at any time, concurrently with another, and may be interrupted. Generation g is sealed so:

1. g+1 and its table are made. Logs that are opened and letters that are replayed from now on choose g+1.
2. The checkpoint of each log that is not settled is moved to the newest generation. The update waits for the flush
   under way, and the next one writes to the generation of the checkpoint.
3. One transaction locks g's row. That waits for the openings, replays and merges that hold it. A later statement
   looks for checkpoints that are still at g, and for merges that are not complete. If there are none, g is sealed;
   otherwise it is tried again.
"""

from typing import Any

import asyncpg
import structlog

from services.counting.settings import GenerationSettings

_LOGGER = structlog.get_logger(__name__)

_LOCK_SECONDS = 1.0
"""How long sealing waits for a flush or a merge; below the time that a statement of upkeep has."""

_WAIT = f"set local lock_timeout = {int(_LOCK_SECONDS * 1000)}"
# Any constant number.
_LOCK = "select pg_try_advisory_xact_lock(7305803)"
# An idle cluster makes none.
_OPEN = """
select generation, now() >= opened_at + make_interval(secs => $1) and exists (
    select from counting.rollup_run as run where run.generation = generation.generation) as is_due
from counting.generation where generation > 0 and sealed_at is null order by generation"""
_NEWEST = "select max(generation) from counting.generation"
# Attached, not created in place: `create … partition of` locks the whole table behind a long reader.
_CREATE = """
create table counting.rollup_block_{generation} (like counting.rollup_block including all)
with (toast_tuple_target = 8160)"""
_ATTACH = """
alter table counting.rollup_block attach partition counting.rollup_block_{generation} for values in ({generation})"""
_MAKE = "insert into counting.generation (generation, opened_at) values ($1, clock_timestamp())"
_BEHIND = """
select distinct log_id from counting.checkpoint join counting.log using (log_id)
where state <> 'settled' and generation < $1"""
_MOVE = "update counting.checkpoint set generation = $2 where log_id = $1 and generation < $2"
_HOLD = """
select generation from counting.generation where generation = $1 and sealed_at is null for update"""
_IS_CLEAR = """
select not exists (
    select from counting.checkpoint join counting.log using (log_id)
    where state <> 'settled' and checkpoint.generation <= $1
) and not exists (select from counting.rollup_run where generation = $1 and not is_complete)"""
_SEAL = "update counting.generation set sealed_at = clock_timestamp() where generation = $1"


class Sealing:
    """Seals the generations of all shards, over a pool of connections."""

    def __init__(self, pool: Any, settings: GenerationSettings) -> None:
        self._pool = pool
        self._settings = settings

    async def seal_due(self) -> list[int]:
        """Make the next generation if it is time, and seal those before the newest; which ones were sealed.

        One that a flush or a merge holds for long is left for the next time. Raises what is in AWAY.
        """
        rows = await self._pool.fetch(_OPEN, self._settings.seal_seconds)
        newest: int = rows[-1]["generation"]
        older = [row["generation"] for row in rows[:-1]]
        if rows[-1]["is_due"] and await self._make(newest + 1):
            older, newest = [*older, newest], newest + 1
        if older:
            await self._move_checkpoints(newest)
        return [generation for generation in older if await self._seal(generation)]

    async def _make(self, generation: int) -> bool:
        """Make a generation with its table; false when another shard does, or has done it."""
        async with self._pool.acquire() as connection, connection.transaction():
            if not await connection.fetchval(_LOCK):
                return False
            if await connection.fetchval(_NEWEST) != generation - 1:
                return False
            await connection.execute(_CREATE.format(generation=generation))
            await connection.execute(_ATTACH.format(generation=generation))
            await connection.execute(_MAKE, generation)
        return True

    async def _move_checkpoints(self, newest: int) -> None:
        """Move each checkpoint that is behind, in a transaction of its own: one that is held keeps up no other."""
        for row in await self._pool.fetch(_BEHIND, newest):
            try:
                async with self._pool.acquire() as connection, connection.transaction():
                    await connection.execute(_WAIT)
                    await connection.execute(_MOVE, row["log_id"], newest)
            except asyncpg.LockNotAvailableError:
                _LOGGER.info("sealing waits for a flush; will retry", log_id=row["log_id"])

    async def _seal(self, generation: int) -> bool:
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(_WAIT)
                if await connection.fetchval(_HOLD, generation) is None:
                    return False
                if not await connection.fetchval(_IS_CLEAR, generation):
                    return False
                await connection.execute(_SEAL, generation)
        except asyncpg.LockNotAvailableError:
            _LOGGER.info("sealing waits for a merge; will retry", generation=generation)
            return False
        _LOGGER.info("generation sealed", generation=generation)
        return True
