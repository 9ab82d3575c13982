"""A connection for writes, and the result of a statement on it: success, refusal, or in doubt.

Two results are certain: success without a warning that the commit may be lost, and an ERROR from the server outside of
SQLSTATE classes 08 and 57. In every other case the statement is in doubt: it may be committed or not, now or later. The
connection is then closed, without a cancel request, and its owner runs recovery.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import asyncpg
import structlog

_LOGGER = structlog.get_logger(__name__)

T = TypeVar("T")

_IN_DOUBT_CLASSES = ("08", "57")
_SERVER_CLASSES = ("25", "42", "53", "58")
# Transactions that are none, the loss of a connection, a shutdown.
_WARNINGS_IN_DOUBT_CLASSES = ("08", "25", "57")
_WAIT_FOR_STANDBY = "SyncRepWaitForLSN"
"""The function of Postgres that reports a cancelled wait for the synchronous standby. Its warning has the general
SQLSTATE of warnings, and a message in the server's language."""
_MOST_WARNINGS_LOGGED = 100


class InDoubt(Exception):
    """It is unknown whether the transaction was committed; the connection is closed."""


class Refused(Exception):
    """The server refused the statement with an ERROR: for certain nothing of it was done."""

    def __init__(self, error: asyncpg.PostgresError) -> None:
        super().__init__(str(error))
        self.sqlstate: str = error.sqlstate
        self.constraint: str | None = error.constraint_name
        self.is_of_the_data = is_of_the_data(error)
        """Whether the rows are the cause, so that the same rows would be refused again."""
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

        Raises Refused when the server reported that nothing was done, and InDoubt when that is unknown; after
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
        """Return the connection to its opener."""
        with suppress(asyncpg.InterfaceError):  # that of a pool is gone once it is closed
            self._connection.remove_log_listener(self._note)

    def _abandon(self, task: "asyncio.Future[Any]") -> None:
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # retrieve the error
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


@asynccontextmanager
async def borrow_for_writing(pool: Any) -> AsyncIterator[WriteConnection]:
    """A connection of a pool, for a write whose end has to be known."""
    async with pool.acquire() as connection:
        borrowed = WriteConnection(connection)
        try:
            yield borrowed
        finally:
            borrowed.release()


def is_of_the_data(error: asyncpg.PostgresError) -> bool:
    """Whether an ERROR is about the rows themselves: a bad value, or a constraint of a table. (That there is no
    partition for a row is of class 23 too, but names no constraint.)"""
    kind = error.sqlstate[:2]
    is_null = isinstance(error, asyncpg.NotNullViolationError)  # which names no constraint either
    return kind == "22" or (kind == "23" and (error.constraint_name is not None or is_null))


def _is_doubt(warning: Any) -> bool:
    """Whether a WARNING (an asyncpg.PostgresLogMessage) contradicts the success of its statement.

    One that does not tell which function of Postgres it comes from might be any.
    """
    function = warning.server_source_function
    return function in (None, _WAIT_FOR_STANDBY) or warning.sqlstate[:2] in _WARNINGS_IN_DOUBT_CLASSES


def _is_definite(error: asyncpg.PostgresError) -> bool:
    return error.severity_en == "ERROR" and error.sqlstate[:2] not in _IN_DOUBT_CLASSES
