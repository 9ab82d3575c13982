"""A log: one life of a shard. Opened by the shard, closed by whoever takes over, settled when it is applied."""

import secrets
from dataclasses import dataclass, field
from typing import Any

from libs.domain.errors import NotReady
from libs.stores.postgres import PostgresSettings, WriteConnection, connect, make_durable, time_limits
from services.counting.position import Position
from services.counting.settings import RecoverySettings

ROLLUPS = "rollups"
"""The consumer that moves entries to the rollups."""

_OPEN = """
insert into log (log_id, shard, pids, floor, opening_floor) select $1, $2, $3, floor, floor from cluster
for share -- a floor that is being raised would be missed"""
_START_CHECKPOINT = """
insert into checkpoint (log_id, consumer, generation)
select $1, $2, max(generation) from generation where sealed_at is null"""
_START_HEART = "insert into heartbeat (log_id) values ($1)"
_BEATS = "select log_id, beat from heartbeat join log using (log_id) where state <> 'settled'"
_BEAT = """
update heartbeat set beat = beat + 1
where log_id = $1 and exists (select from log where log.log_id = $1 and state = 'open')
returning beat"""


@dataclass(slots=True)
class Log:
    """An open log and the two connections that write for it, one for inserts and one for flushes."""

    log_id: int
    inserts: WriteConnection
    flushes: WriteConnection
    last_seq: int = field(default=0, init=False)
    """the last number given to an entry"""
    cut: int = field(default=0, init=False)
    """up to here every entry is in the buffer, or was duplicate or refused"""
    applied: Position = field(default=Position(), init=False)
    """up to here the rollups contain every event"""

    def abandon(self) -> None:
        """Stop writing: cut both connections. What is under way may still be committed."""
        self.inserts.close()
        self.flushes.close()


async def open_log(dsn: str, postgres: PostgresSettings, recovery: RecoverySettings, shard: str) -> Log:
    """Open a log with a new number. Raises what is in AWAY, Refused and InDoubt when Postgres is away."""
    log_id = secrets.randbits(63)
    limits = time_limits(recovery.transaction_timeout_seconds)
    inserts: Any = await connect(dsn, postgres, f"tally counting inserts {log_id}", **limits)
    flushes: Any = None
    try:
        flushes = await connect(dsn, postgres, f"tally counting flushes {log_id}", **limits)
        log = Log(log_id, WriteConnection(inserts), WriteConnection(flushes))
    except BaseException:
        for connection in (inserts, flushes):
            if connection is not None:
                connection.terminate()
        raise

    async def register(connection: Any) -> None:
        await make_durable(connection, until_end_of_transaction=False)
        async with connection.transaction():
            await connection.execute(_OPEN, log_id, shard, [log.inserts.pid, log.flushes.pid])
            await connection.execute(_START_CHECKPOINT, log_id, ROLLUPS)
            await connection.execute(_START_HEART, log_id)

    try:
        await log.inserts.run(register, timeout_seconds=recovery.transaction_timeout_seconds)
    except BaseException:
        log.abandon()
        raise
    return log


async def check_durability(pool: Any) -> None:
    """Raises NotReady on a server that forgets commits when its machine stops."""
    if await pool.fetchval("show fsync") != "on":
        raise NotReady(
            "this Postgres runs with fsync = off, and forgets what it has committed when its machine stops. "
            "Set fsync = on"
        )


async def beat(pool: Any, log_id: int) -> bool:
    """Show that the shard is alive; false when its log is not open any more."""
    return await pool.fetchval(_BEAT, log_id) is not None


async def read_beats(pool: Any) -> dict[int, int]:
    """The beat of every log that is not settled."""
    return {row["log_id"]: row["beat"] for row in await pool.fetch(_BEATS)}
