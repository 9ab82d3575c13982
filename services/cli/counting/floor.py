"""`tally floor`: the id below which nothing is counted any more, shown and corrected."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from libs.stores.floor import lower_floor, read_floor
from libs.stores.postgres import connect
from libs.stores.schema import read_cluster
from services.cli.terminal.configuration import read_settings
from services.cli.terminal.database import read_dsn, using_database
from services.cli.terminal.failure import Failure
from services.migrations import list_migrations

T = TypeVar("T")

_WORK_SECONDS = 60.0


def show() -> str:
    """The floor and the clocks, in lines. Raises Failure."""
    found = _with_connection(read_floor)
    ahead_h = (found.floor_ms - found.wanted_ms) / 3_600_000
    side = "earlier" if ahead_h > 0 else "later"
    return "\n".join(
        (
            f"floor             {_time(found.floor_ms)}",
            f"it belongs at     {_time(found.wanted_ms)}, {abs(ahead_h):,.1f} h {side}",
            f"Postgres's clock  {_time(found.postgres_ms)}",
            f"machine's clock   {_time(found.machine_ms)}",
            f"can be lowered    {f'no: {found.obstacle}' if found.obstacle else 'yes'}",
        )
    )


def lower() -> str:
    """Lower the floor; where to, in a line. Raises Failure when it stays where it is."""
    found, left = _with_connection(lower_floor)
    if found.obstacle:
        raise Failure(f"the floor stays where it is: {found.obstacle}")
    lowered = f"lowered to {_time(found.wanted_ms)}"
    if not left:
        return lowered
    return f"{lowered}; an insert of {left} logs does not end: they follow within half a minute of its end"


def _with_connection(work: Callable[[Any], Awaitable[T]]) -> T:
    settings = read_settings()
    dsn = read_dsn(settings, "It says whose floor is meant")

    async def run() -> T:
        connection = await connect(dsn, settings.postgres, "tally floor")
        try:
            await read_cluster(connection, settings.partition_count, list_migrations())
            async with asyncio.timeout(_WORK_SECONDS):
                return await work(connection)
        finally:
            connection.terminate()

    with using_database():
        return asyncio.run(run())


def _time(ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ms / 1000))
