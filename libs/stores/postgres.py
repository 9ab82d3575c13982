"""Connections to Postgres, and what the end of a statement on them means.

A `WriteConnection` knows two ends: success without a warning, and an ERROR that the server sent outside of
SQLSTATE classes 08 and 57. Every other end is in doubt: the transaction may be committed or not, now or later. The
connection is then closed, never asked to cancel, and whoever owns it goes through recovery.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeVar

import asyncpg
import structlog
from pydantic import BaseModel, Field

from tally.contract.errors import NotReady, ReadTooLarge, Unavailable

_LOGGER = structlog.get_logger(__name__)

T = TypeVar("T")

AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""What a statement raises when Postgres is away or will not do it now; `TimeoutError` is an OSError."""

# Weaker settings than `on` acknowledge what may be lost; `remote_apply` is stronger, and stays.
_BE_DURABLE = """
select set_config('synchronous_commit', 'on', $1)
where current_setting('synchronous_commit') in ('off', 'local', 'remote_write')"""
_IN_DOUBT_CLASSES = ("08", "57")
_SERVER_CLASSES = ("25", "42", "53", "58")
# Transactions that are none, the loss of a connection, a shutdown.
_WARNINGS_IN_DOUBT_CLASSES = ("08", "25", "57")
_WAIT_FOR_STANDBY = "SyncRepWaitForLSN"
"""The function of Postgres that reports a cancelled wait for the synchronous standby. Its warning has the general
SQLSTATE of warnings, and a message in the server's language."""
_MOST_WARNINGS_LOGGED = 100
_AWAY_CLASSES = ("08", "25", "40", "53", "57")
# The server cancels a statement itself before we stop waiting for it: then the cause is known, and a client that is
# frozen leaves nothing running.
_SERVER_SHARE = 0.9


class PostgresSettings(BaseModel, frozen=True, extra="forbid"):
    """How Postgres is reached."""

    dsn: str | None = Field(
        None, description="postgresql://… of a server of your own; unset: the embedded one"
    )
    pool_size: int = Field(
        8, ge=1, le=100, description="connections that a service keeps for reads and upkeep"
    )
    connect_timeout_seconds: float = Field(
        5.0, gt=0, description="how long opening a connection may take, or waiting for a free one"
    )
    statement_timeout_seconds: float = Field(
        5.0,
        gt=0,
        description="how long a statement may take; heavy reads, audits and shards have other limits",
    )


class InDoubt(Exception):
    """Nobody knows whether the transaction was committed; the connection is closed."""


class Refused(Exception):
    """The server refused the statement with an ERROR: for certain nothing of it was done."""

    def __init__(self, error: asyncpg.PostgresError) -> None:
        super().__init__(str(error))
        self.sqlstate: str = error.sqlstate
        self.constraint: str | None = error.constraint_name
        self.is_of_the_data = is_of_the_data(error)
        """Whether the rows are to blame, so that the same rows would be refused again."""
        self.is_unique_violation = isinstance(error, asyncpg.UniqueViolationError)
        """Whether a row with such a key was there already."""
        self.is_of_the_server = self.sqlstate[:2] in _SERVER_CLASSES
        """Whether it would refuse other rows too: its disk is full, it is read-only, a privilege is missing"""


class WriteConnection:
    """One connection, one statement or transaction at a time, each with a known end or in doubt."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._doubts: list[str] = []
        self._logged: set[tuple[str | None, ...]] = set()
        connection.add_log_listener(self._note)

    @property
    def pid(self) -> int:
        """The server process at the other end."""
        pid: int = self._connection.get_server_pid()
        return pid

    async def run(self, work: Callable[[Any], Awaitable[T]], *, timeout_seconds: float) -> T:
        """Do `work` with the asyncpg connection and tell how it ended.

        Raises Refused when the server said that nothing was done, and InDoubt when nobody knows; after
        InDoubt, and after a cancellation, the connection is closed.
        """
        self._doubts.clear()
        task = asyncio.ensure_future(work(self._connection))
        # Not wait_for: it would cancel the task, and asyncpg would then ask the server to cancel the statement.
        try:
            done, _ = await asyncio.wait({task}, timeout=timeout_seconds)
        except asyncio.CancelledError:
            self._abandon(task)
            raise
        if not done:
            self._abandon(task)
            raise InDoubt(f"no answer within {timeout_seconds} s")
        try:
            result = task.result()
        except asyncpg.PostgresError as error:
            if _is_definite(error):
                raise Refused(error) from error
            self.close()
            raise InDoubt(str(error)) from error
        except Exception as error:
            # Whatever it was, it is not one of the two ends that are known. (When the server dies, asyncpg
            # raises errors of its own making, too.)
            self.close()
            raise InDoubt(repr(error)) from error
        if self._doubts:
            # For example a cancelled wait for the synchronous standby, which answers success.
            self.close()
            raise InDoubt("; ".join(self._doubts))
        return result

    def close(self) -> None:
        """Cut the connection at once, without a word to the server."""
        self._connection.terminate()

    def release(self) -> None:
        """Give the connection back to whoever opened it."""
        with suppress(asyncpg.InterfaceError):  # that of a pool is gone once it is closed
            self._connection.remove_log_listener(self._note)

    def _abandon(self, task: "asyncio.Future[Any]") -> None:
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # somebody looked at it
        self.close()

    def _note(self, _connection: Any, message: asyncpg.PostgresLogMessage) -> None:
        if message.severity_en != "WARNING":
            return
        if _is_doubt(message):
            self._doubts.append(str(message))
            return
        # Its place in Postgres stands for it: the message itself may hold a number that changes each time.
        place = (message.sqlstate, message.server_source_function, message.server_source_line)
        if place not in self._logged and len(self._logged) < _MOST_WARNINGS_LOGGED:
            self._logged.add(place)
            _LOGGER.warning(
                "Postgres warns, and works on; logged once for each connection",
                warning=message.message,
                sqlstate=message.sqlstate,
            )


def is_of_the_data(error: asyncpg.PostgresError) -> bool:
    """Whether an ERROR is about the rows themselves: a bad value, or a constraint of a table. (That there is no
    partition for a row is of class 23 too, but names no constraint.)"""
    kind = error.sqlstate[:2]
    is_null = isinstance(error, asyncpg.NotNullViolationError)  # which names no constraint either
    return kind == "22" or (kind == "23" and (error.constraint_name is not None or is_null))


def _is_doubt(warning: Any) -> bool:
    """Whether a WARNING (an asyncpg.PostgresLogMessage) takes back what the success beside it states.

    One that does not tell which function of Postgres it comes from might be any.
    """
    function = warning.server_source_function
    return function in (None, _WAIT_FOR_STANDBY) or warning.sqlstate[:2] in _WARNINGS_IN_DOUBT_CLASSES


def _is_definite(error: asyncpg.PostgresError) -> bool:
    return error.severity_en == "ERROR" and error.sqlstate[:2] not in _IN_DOUBT_CLASSES


def time_limits(transaction_seconds: float) -> dict[str, str]:
    """Server settings by which a client that is frozen, or out of reach, holds locks no longer than this."""
    longest = f"{int(transaction_seconds * 1000)}ms"
    return {
        "lock_timeout": longest,
        "idle_in_transaction_session_timeout": longest,
        "transaction_timeout": longest,
        "tcp_keepalives_idle": "5",
        "tcp_keepalives_interval": "2",
        "tcp_keepalives_count": "3",
    }


async def connect(dsn: str, settings: PostgresSettings, name: str, **server_settings: str) -> Any:
    """Open one connection that shows as `name` in pg_stat_activity. Raises what is in AWAY."""
    return await asyncpg.connect(
        dsn,
        timeout=settings.connect_timeout_seconds,
        server_settings={"application_name": name, "timezone": "UTC", **server_settings},
    )


async def make_durable(connection: Any, *, until_end_of_transaction: bool) -> None:
    """Have an asyncpg connection answer a commit only when no crash can undo it, whatever the server's default is."""
    await connection.execute(_BE_DURABLE, until_end_of_transaction)


@asynccontextmanager
async def borrow_for_writing(pool: Any) -> AsyncIterator[WriteConnection]:
    """A connection of a pool, for a write whose end has to be known."""
    async with pool.acquire() as connection:
        borrowed = WriteConnection(connection)
        try:
            yield borrowed
        finally:
            borrowed.release()


@contextmanager
def reaching_postgres() -> Iterator[None]:
    """Around reads for a caller. Raises Unavailable when Postgres is away or will not do it now, and ReadTooLarge when
    it took too long; both name the cause. Our own mistakes stay what they are.
    """
    try:
        yield
    except asyncpg.QueryCanceledError as error:
        raise ReadTooLarge(
            f"Postgres cancelled this read ({error}). Ask for a narrower range, or again when Postgres has less to do"
        ) from error
    except AWAY as error:
        if not isinstance(error, asyncpg.PostgresError):
            raise Unavailable(_cause_of_silence(error)) from error
        if error.sqlstate[:2] not in _AWAY_CLASSES:
            raise
        raise Unavailable(_cause_of_refusal(error)) from error


def _cause_of_silence(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer from Postgres in time: it is silent, or every connection to it is busy; ask again"
    return "Postgres cannot be reached now; ask again"


def _cause_of_refusal(error: asyncpg.PostgresError) -> str:
    if error.sqlstate[:2] == "08":
        return "Postgres cannot be reached now; ask again"
    hint = f" ({error.hint})" if error.hint else ""
    return f"Postgres refused the read: {error}{hint}; ask again when that is mended"


# Those of asyncpg.create_pool, which takes no class of pools.
_POOL_DEFAULTS: Mapping[str, Any] = {
    "init_size": None,
    "max_queries": 50_000,
    "max_inactive_connection_lifetime": 300.0,
    "connect": None,
    "setup": None,
    "init": None,
    "reset": None,
    "loop": None,
    "connection_class": asyncpg.Connection,
    "record_class": asyncpg.Record,
}


class _Pool(asyncpg.Pool):  # type: ignore[misc]  # asyncpg has no types
    """A pool in which waiting for a free connection, and resetting one that is given back, have a time limit too."""

    def __init__(self, *arguments: Any, acquire_seconds: float, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._acquire_seconds = acquire_seconds

    def acquire(self, *, timeout: float | None = None) -> Any:
        return super().acquire(timeout=self._acquire_seconds if timeout is None else timeout)


@asynccontextmanager
async def open_pool(
    dsn: str,
    settings: PostgresSettings,
    name: str,
    *,
    statement_seconds: float | None = None,
    server_settings: Mapping[str, str] | None = None,
    is_needed_at_start: bool = True,
) -> AsyncIterator[Any]:
    """Open a pool for reads and upkeep. Raises NotReady when Postgres cannot be reached, if it is needed at the start.

    One that is not connects when it is first used, and raises what is in AWAY then.

    A statement that takes longer than `statement_seconds` (unset: as in the settings) is cancelled by the server, and
    raises TimeoutError when that is silent.
    """
    seconds = settings.statement_timeout_seconds if statement_seconds is None else statement_seconds
    try:
        pool = _Pool(
            dsn,
            acquire_seconds=settings.connect_timeout_seconds,
            min_size=int(is_needed_at_start),
            max_size=settings.pool_size,
            timeout=settings.connect_timeout_seconds,
            command_timeout=seconds,
            server_settings={
                "application_name": name,
                "timezone": "UTC",
                "statement_timeout": f"{int(seconds * _SERVER_SHARE * 1000)}ms",
                **(server_settings or {}),
            },
            **_POOL_DEFAULTS,
        )
        await pool
    except (*AWAY, ValueError) as error:
        raise NotReady(
            f"cannot reach Postgres: {error}. Check TALLY_POSTGRES__DSN and that it is up"
        ) from error
    try:
        yield pool
    finally:
        # close() waits for every borrower; one that hangs with the server must not keep us.
        try:
            await asyncio.wait_for(pool.close(), timeout=settings.connect_timeout_seconds)
        except AWAY:
            pool.terminate()
