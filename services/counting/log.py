"""A log: one life of a shard. Opened by the shard, closed by whoever takes over, settled when it is applied."""

import asyncio
import secrets
from dataclasses import dataclass, field
from typing import Any

from libs.stores.postgres import PostgresSettings, WriteConnection, connect
from services.counting.settings import RecoverySettings

ROLLUPS = "rollups"
"""The consumer that moves entries to the rollups."""

_OPEN = """
insert into log (log_id, shard, pids, floor, opening_floor) select $1, $2, $3, floor, floor from cluster"""
_START_CHECKPOINT = """
insert into checkpoint (log_id, consumer, generation)
select $1, $2, max(generation) from generation where sealed_at is null"""
_START_HEART = "insert into heartbeat (log_id) values ($1)"
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
    applied_seq: int = field(default=0, init=False)
    """up to here the rollups contain every entry"""

    def abandon(self) -> None:
        """Stop writing: cut both connections. What is under way may still be committed."""
        self.inserts.close()
        self.flushes.close()


async def open_log(dsn: str, postgres: PostgresSettings, recovery: RecoverySettings, shard: str) -> Log:
    """Open a log with a new number. Raises OSError or asyncpg.PostgresError when Postgres is away.

    The time limits bound how long a frozen shard can hold locks: less than it takes until it is taken over.
    """
    log_id = secrets.randbits(63)
    longest = f"{int(recovery.transaction_timeout_seconds * 1000)}ms"
    limits = {
        "lock_timeout": longest,
        "idle_in_transaction_session_timeout": longest,
        "transaction_timeout": longest,
        "tcp_keepalives_idle": "5",
        "tcp_keepalives_interval": "2",
        "tcp_keepalives_count": "3",
        "jit": "off",
    }
    inserts: Any = await connect(dsn, postgres, f"tally counting inserts {log_id}", **limits)
    try:
        flushes: Any = await connect(dsn, postgres, f"tally counting flushes {log_id}", **limits)
    except BaseException:
        inserts.terminate()
        raise
    log = Log(log_id, WriteConnection(inserts), WriteConnection(flushes))
    try:
        async with asyncio.timeout(recovery.transaction_timeout_seconds), inserts.transaction():
            await inserts.execute(_OPEN, log_id, shard, [log.inserts.pid, log.flushes.pid])
            await inserts.execute(_START_CHECKPOINT, log_id, ROLLUPS)
            await inserts.execute(_START_HEART, log_id)
    except BaseException:
        log.abandon()
        raise
    return log


async def beat(pool: Any, log_id: int) -> bool:
    """Show that the shard is alive; false when its log is not open any more."""
    return await pool.fetchval(_BEAT, log_id) is not None
