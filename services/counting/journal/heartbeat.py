"""The heartbeat of a log: shows that its shard is alive, and detects when another shard has closed it."""

import asyncio
from typing import Any

from libs.stores.postgres import AWAY
from services.counting.journal.appender import LogClosed
from services.counting.journal.log import Log, beat
from services.counting.settings import RecoverySettings


async def keep_alive(pool: Any, log: Log, settings: RecoverySettings) -> None:
    """Beat until cancelled. Raises LogClosed when the log is not open any more."""
    while True:
        # A task of its own: on a connection that is silent even a cancellation has to wait.
        beating = asyncio.create_task(_is_open(pool, log))
        await asyncio.wait({beating}, timeout=settings.statement_timeout_seconds)
        if beating.done() and not beating.result():
            raise LogClosed
        await asyncio.sleep(settings.heartbeat_seconds)


async def _is_open(pool: Any, log: Log) -> bool:
    try:
        return await beat(pool, log.log_id)
    except AWAY:
        return True  # the inserts will tell
