"""The floor in Postgres: raised with time, and lowered by an operator if that counts nothing twice.

How far it may be raised is judged elsewhere (`libs/domain/floor_pace.py`). Why lowering is safe is told in ADR 15; the
code here checks, under locks, each thing that the proof needs.
"""

import uuid
from dataclasses import dataclass
from typing import Any

import asyncpg
import structlog

from libs.domain.horizon import floor_ms_at
from libs.stores.postgres import make_durable
from libs.stores.server_clock import read_clocks
from tally.contract.request_id import first_id_of, time_ms_of

_LOGGER = structlog.get_logger(__name__)

LOCK_SECONDS = 2.0
"""How long the floor of a log may wait for an insert under way; below the time that a statement of upkeep has."""

# Any constant number. Code that makes or removes partitions of the journal, or lowers the floor, holds this lock.
LOCK_UPKEEP = "select pg_advisory_xact_lock(7305802)"
_FLOOR = "select floor, journal_from from public.cluster"
_RAISE = "update public.cluster set floor = $1 where floor < $1"
_BEHIND = (
    "select log_id from counting.log join public.cluster on log.floor < cluster.floor where state = 'open'"
)
# As closing does, and for the same reason: after a plain update, an insert under way would still go by the old floor,
# and so would one that has taken its snapshot and not yet the row (tried).
_WAIT = "set local lock_timeout = {milliseconds}"
_LOCK_LOG = "select from counting.log where log_id = $1 for update"
_RAISE_LOG = """
update counting.log set floor = cluster.floor from public.cluster
where log_id = $1 and log.floor < cluster.floor"""
# A replay locks its letter first, and so waits for this, or this for the replay.
_LOCK_LETTERS = "lock table counting.dead_letter in exclusive mode"
_LOCK_FLOOR = "select floor, journal_from from public.cluster for update"
_REPLAYED = """
select request_id from counting.dead_letter where replayed_events > 0 and log_id is null and request_id >= $1
order by request_id desc limit 1"""
_LOWER = "update public.cluster set floor = $1"
_ABOVE = (
    "select log_id from counting.log join public.cluster on log.floor > cluster.floor where state = 'open'"
)
_CLOSE_LOG = "update counting.log set state = 'closed' where log_id = $1 and state = 'open'"


@dataclass(frozen=True, slots=True)
class Floor:
    """The floor, the clocks, and what keeps the floor from being lowered; times in ms since 1970-01-01 UTC."""

    floor_ms: int
    wanted_ms: int
    """where it belongs by the clock that is behind"""
    postgres_ms: int
    machine_ms: int
    obstacle: str
    """why it cannot be lowered; empty: it can"""


async def raise_floor(connection: Any, floor: uuid.UUID) -> None:
    """Raise the cluster's floor, for logs to come. A lower id changes nothing."""
    await connection.execute(_RAISE, floor)


async def align_logs(connection: Any) -> None:
    """Bring each open log to the cluster's floor: raise its own, or close it where that is above.

    When an open log has a floor, no entry below it is on its way into the journal any more. One log at a time, so that
    a frozen one does not block the inserts of others; its floor stays until the next call, or until it is closed.
    """
    for row in await connection.fetch(_BEHIND):
        if not await _change_log(connection, row["log_id"], _RAISE_LOG):
            _LOGGER.warning("floor of a log not raised: an insert does not end", log_id=row["log_id"])
    await _close_above(connection)


async def read_floor(connection: Any) -> Floor:
    """The floor as it is now, over an asyncpg connection."""
    return await _judge(connection, _FLOOR)


async def lower_floor(connection: Any) -> tuple[Floor, int]:
    """Lower the floor to where it belongs, unless there is an obstacle: then nothing is changed.

    Returns what was found, and how many logs still go by the old floor because an insert of theirs did not end: shards
    try these again. Raises what is in AWAY: when it does, the floor may have been lowered or not.
    """
    async with connection.transaction():
        await make_durable(connection, until_end_of_transaction=True)
        await connection.execute(_WAIT.format(milliseconds=int(LOCK_SECONDS * 1000)))
        await connection.execute(LOCK_UPKEEP)
        await connection.execute(_LOCK_LETTERS)
        found = await _judge(connection, _LOCK_FLOOR)
        if not found.obstacle:
            await connection.execute(_LOWER, first_id_of(found.wanted_ms))
    return found, await _close_above(connection)


async def _close_above(connection: Any) -> int:
    """Close the logs that go by a floor above the cluster's; how many could not be closed.

    Closed, not changed: recovery and strong reads look for no entry below the floor that a log was opened with.
    """
    above = [row["log_id"] for row in await connection.fetch(_ABOVE)]
    return sum([not await _change_log(connection, log_id, _CLOSE_LOG) for log_id in above])


async def _judge(connection: Any, read: str) -> Floor:
    row = await connection.fetchrow(read)
    reading = await read_clocks(connection)
    if reading is None:
        raise TimeoutError("Postgres did not tell its time within a second")
    postgres_ms, machine_ms = reading.postgres_us // 1000, reading.machine_us // 1000
    wanted_ms = floor_ms_at(min(postgres_ms, machine_ms))
    wanted = first_id_of(wanted_ms)
    obstacle = ""
    if row["floor"] <= wanted:
        obstacle = "it is not ahead of where it belongs"
    elif not reading.agrees:
        obstacle = (
            f"Postgres's clock and this machine's differ by {postgres_ms - machine_ms:+,} ms. Set the wrong one "
            "right, or run this on a machine whose clock is right"
        )
    elif wanted < row["journal_from"]:
        obstacle = (
            "partitions of the journal that it would have to be above were removed, so what was counted "
            "could be counted again"
        )
    elif (replayed := await connection.fetchval(_REPLAYED, wanted)) is not None:
        obstacle = (
            f"the dead letter of request {replayed} was replayed because the floor had passed it; below a lower floor "
            "it could be counted again"
        )
    return Floor(time_ms_of(row["floor"]), wanted_ms, postgres_ms, machine_ms, obstacle)


async def _change_log(connection: Any, log_id: int, change: str) -> bool:
    """Change the row of a log behind its inserts; false when one under way does not end."""
    try:
        async with connection.transaction():
            await connection.execute(_WAIT.format(milliseconds=int(LOCK_SECONDS * 1000)))
            await connection.execute(_LOCK_LOG, log_id)
            await connection.execute(change, log_id)
    except asyncpg.LockNotAvailableError:
        return False
    return True
