"""Postgres's clock, read for the life of a process."""

import asyncio
from typing import Any

import structlog

from libs.stores.postgres import AWAY
from libs.stores.server_clock import ServerClock
from tally.contract.errors import NotReady

_LOGGER = structlog.get_logger(__name__)

_CLOCK_SECONDS = 5.0


async def keep_clock(clock: ServerClock, pool: Any) -> None:
    """Read Postgres's clock now and then, and say when the machine's own begins to differ from it, or ends to."""
    agreed = True
    while True:
        if clock.agrees is not agreed:
            agreed = clock.agrees
            log = _LOGGER.info if agreed else _LOGGER.error
            log(
                "this machine's clock agrees with Postgres's again"
                if agreed
                else "this machine's clock is too far from Postgres's: nothing is ready until it is set right",
                offset_seconds=round(clock.offset_seconds, 3),
            )
        await asyncio.sleep(_CLOCK_SECONDS)
        try:
            await clock.read(pool)
        except (*AWAY, NotReady) as error:
            _LOGGER.warning("Postgres's clock was not read", error=str(error))
