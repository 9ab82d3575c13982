"""When a change is in force everywhere: no serving replica can answer from a view without it."""

import asyncio
from typing import Any

import structlog

from libs.stores.postgres import reaching_postgres
from services.catalog.replicas import list_replicas, split

_LOGGER = structlog.get_logger(__name__)

_LOOK_SECONDS = 0.05
_SLOW_LOOKS = 40


async def until_in_force(pool: Any, change: int) -> tuple[int, int]:
    """Wait until each serving replica has applied a committed change, or must by now refuse as stale.

    Returns how many have applied it, and how many must refuse. It takes as long as the staleness when a replica has
    died or is frozen. Raises Unavailable.
    """
    looks = 0
    while True:
        with reaching_postgres():
            confirmed, stale, open_ = split(await list_replicas(pool), change)
        if not open_:
            return confirmed, stale
        looks += 1
        if looks == _SLOW_LOOKS:
            _LOGGER.warning(
                "waiting for replicas that have not applied a change", change=change, replicas=open_
            )
        await asyncio.sleep(_LOOK_SECONDS)
