"""A log: one life of a shard. Opened by the shard, closed by another shard's takeover, settled when it is applied."""

import asyncio
import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from libs.stores.postgres import PostgresSettings, connect, make_durable, time_limits
from libs.stores.schema import Cluster, read_identity
from libs.stores.write_connection import WriteConnection
from services.counting.journal.position import Position
from services.counting.settings import RecoverySettings
from tally.contract.errors import NotReady

ROLLUPS = "rollups"
"""The consumer that moves entries to the rollups."""

_OPEN = """
insert into counting.log (log_id, shard, pids, floor, opening_floor) select $1, $2, $3, floor, floor from public.cluster
for share -- a floor that is being raised would be missed"""
_START_CHECKPOINT = """
insert into counting.checkpoint (log_id, consumer, generation)
select $1, $2, generation from counting.generation where sealed_at is null order by generation desc limit 1
for share -- sealing waits for this, and then finds the checkpoint"""
_START_HEART = "insert into counting.heartbeat (log_id) values ($1)"
_BEATS = (
    "select log_id, beat from counting.heartbeat join counting.log using (log_id) where state <> 'settled'"
)
_BEAT = """
update counting.heartbeat set beat = beat + 1
where log_id = $1 and exists (select from counting.log where log.log_id = $1 and state = 'open')
returning beat"""

_FSYNC = "show fsync"
_NO_FSYNC = (
    "this Postgres runs with fsync = off, and forgets what it has committed when its machine stops. "
    "Set fsync = on"
)
_END_BACKENDS = """
select pg_terminate_backend(pid) from pg_stat_activity
where application_name = any($1) and datname = current_database()"""
_HAS_BACKENDS = """
select exists (select from pg_stat_activity where application_name = any($1) and datname = current_database())"""
_END_SECONDS, _END_LOOK_SECONDS = 1.0, 0.02


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


async def open_log(
    dsn: str,
    postgres: PostgresSettings,
    recovery: RecoverySettings,
    shard: str,
    *,
    log_id: int | None = None,
    given_up: set[int] | None = None,
    cluster: Cluster | None = None,
) -> Log:
    """Open a log with a new number. Raises the errors in AWAY, Refused and InDoubt when Postgres is unreachable.

    `log_id` may be used again unless it raised InDoubt. `given_up`: numbers of logs that this shard has given up; what
    they left behind in Postgres is ended first, and the set emptied. `cluster`: NotReady is raised when Postgres is of
    another one.
    """
    log_id = make_log_id() if log_id is None else log_id
    limits = time_limits(recovery.transaction_timeout_seconds)
    names = _names_of(log_id)
    inserts: Any = await connect(dsn, postgres, names[0], **limits)
    flushes: Any = None
    try:
        flushes = await connect(dsn, postgres, names[1], **limits)
        log = Log(log_id, WriteConnection(inserts), WriteConnection(flushes))
    except BaseException:
        for connection in (inserts, flushes):
            if connection is not None:
                connection.terminate()
        raise

    async def register(connection: Any) -> str:
        """Why it may not be opened; empty when it was. (What is raised here would leave its end in doubt.)"""
        if problem := await _find_problem(connection, cluster):
            return problem
        if given_up:
            await _end_backends(connection, given_up)
            given_up.clear()
        await make_durable(connection, until_end_of_transaction=False)
        async with connection.transaction():
            await connection.execute(_OPEN, log_id, shard, [log.inserts.pid, log.flushes.pid])
            if await connection.execute(_START_CHECKPOINT, log_id, ROLLUPS) == "INSERT 0 0":
                # It waited for sealing. Only a statement that begins now finds the next generation.
                await connection.execute(_START_CHECKPOINT, log_id, ROLLUPS)
            await connection.execute(_START_HEART, log_id)
        return ""

    try:
        if problem := await log.inserts.run(register, timeout_seconds=recovery.transaction_timeout_seconds):
            raise NotReady(problem)
    except BaseException:
        log.abandon()
        raise
    return log


def make_log_id() -> int:
    """A number for a log: a sequence would repeat after a restore."""
    return secrets.randbits(63)


async def _find_problem(connection: Any, cluster: Cluster | None) -> str:
    if await connection.fetchval(_FSYNC) != "on":
        return _NO_FSYNC
    return "" if cluster is None else cluster.difference_to(await read_identity(connection))


async def _end_backends(connection: Any, log_ids: Collection[int]) -> None:
    """End the server processes of logs that were given up, and wait until they are gone.

    A commit that waits for a lost standby goes on waiting when its client has cut the connection. Without this each
    attempt to open a log would add such a process, until the server has no connections left. What it had committed
    becomes visible; recovery takes care of it as of anything in doubt.
    """
    names = [name for log_id in log_ids for name in _names_of(log_id)]
    await connection.execute(_END_BACKENDS, names)
    async with asyncio.timeout(_END_SECONDS):
        while await connection.fetchval(_HAS_BACKENDS, names):  # noqa: ASYNC110 - it happens in the server
            await asyncio.sleep(_END_LOOK_SECONDS)


def _names_of(log_id: int) -> tuple[str, str]:
    """How the connections of a log show in pg_stat_activity."""
    return f"tally counting inserts {log_id}", f"tally counting flushes {log_id}"


async def check_durability(pool: Any) -> None:
    """Raises NotReady on a server that forgets commits when its machine stops."""
    if await pool.fetchval(_FSYNC) != "on":
        raise NotReady(_NO_FSYNC)


async def beat(pool: Any, log_id: int) -> bool:
    """Show that the shard is alive; false when its log is not open any more."""
    return await pool.fetchval(_BEAT, log_id) is not None


async def read_beats(pool: Any) -> dict[int, int]:
    """The beat of every log that is not settled."""
    return {row["log_id"]: row["beat"] for row in await pool.fetch(_BEATS)}
