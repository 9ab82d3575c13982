"""Shared by commands that need the database itself: its DSN, and the errors without it."""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from services.cli.terminal.failure import REFUSED, UNKNOWN, USAGE, Failure
from services.settings import Settings
from tally.contract.errors import TallyError


def read_dsn(settings: Settings, otherwise: str) -> str:
    """TALLY_POSTGRES__DSN. Raises Failure; `otherwise` says why it is needed."""
    if settings.postgres.dsn is None:
        raise Failure(f"TALLY_POSTGRES__DSN is not set. {otherwise}", USAGE)
    return settings.postgres.dsn


@contextmanager
def using_database() -> Iterator[None]:
    """Raises Failure for what a command can meet there."""
    try:
        yield
    except TallyError as error:
        raise Failure(error.message, REFUSED) from error
    except asyncpg.InterfaceError as error:  # asyncpg's own: the DSN is none
        raise Failure(f"TALLY_POSTGRES__DSN cannot be used: {error}", USAGE) from error
    except asyncpg.PostgresError as error:
        raise Failure(f"Postgres refused: {error}", REFUSED) from error
    except (OSError, TimeoutError) as error:
        raise Failure(
            f"cannot reach Postgres: {error or 'no answer'}. Check TALLY_POSTGRES__DSN and that it is up, and run it "
            "again, which is harmless",
            UNKNOWN,
        ) from error
