"""Access to Postgres: its settings, a connection, and the error of a caller when it is unreachable."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg
from pydantic import BaseModel, Field

from tally.contract.errors import ReadTooLarge, Unavailable

AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""The errors of a statement if Postgres is unreachable or refuses for now; `TimeoutError` is an OSError."""

# Weaker settings than `on` acknowledge what may be lost; `remote_apply` is stronger, and stays.
_BE_DURABLE = """
select set_config('synchronous_commit', 'on', $1)
where current_setting('synchronous_commit') in ('off', 'local', 'remote_write')"""
_AWAY_CLASSES = ("08", "25", "40", "53", "57")


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
    """Open one connection that shows as `name` in pg_stat_activity. Raises the errors in AWAY."""
    return await asyncpg.connect(
        dsn,
        timeout=settings.connect_timeout_seconds,
        server_settings={"application_name": name, "timezone": "UTC", **server_settings},
    )


async def make_durable(connection: Any, *, until_end_of_transaction: bool) -> None:
    """Have an asyncpg connection answer a commit only when no crash can undo it, whatever the server's default is."""
    await connection.execute(_BE_DURABLE, until_end_of_transaction)


@contextmanager
def reaching_postgres() -> Iterator[None]:
    """Around reads for a caller. Raises Unavailable if Postgres is unreachable or refuses for now, ReadTooLarge if
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
