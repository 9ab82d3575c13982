"""How the flushes of a running Tally go, seen from outside by `list_logs`."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import median
from typing import Any

from tally.client import Client

_LOOK_SECONDS = 0.2
_TIMEOUT_S = 60.0


class FlushWatch:
    """Looks at the logs every 0.2 s: how long after one flush the next is done, and how old what waits is."""

    def __init__(self) -> None:
        self._intervals_s: list[float] = []
        self._lags_s: list[float] = []

    @asynccontextmanager
    async def watch(self, client: Client) -> AsyncIterator[None]:
        """Look for as long as this is open."""
        task = asyncio.create_task(self._look(client))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def observations(self) -> dict[str, Any]:
        """In seconds; what was never seen is None."""
        return {
            "flush_interval_s": median(self._intervals_s) if self._intervals_s else None,
            "lag_p50_s": median(self._lags_s) if self._lags_s else None,
            "lag_max_s": max(self._lags_s, default=None),
        }

    async def _look(self, client: Client) -> None:
        flushed_at: dict[int, float] = {}
        applied: dict[int, int] = {}
        while True:
            for log in await client.list_logs(timeout=_TIMEOUT_S):
                now = time.perf_counter()
                if log.applied_seq < log.last_seq:
                    self._lags_s.append(log.lag_s)
                if log.applied_seq > applied.get(log.log_id, log.applied_seq):
                    if log.log_id in flushed_at:
                        self._intervals_s.append(now - flushed_at[log.log_id])
                    flushed_at[log.log_id] = now
                applied[log.log_id] = log.applied_seq
            await asyncio.sleep(_LOOK_SECONDS)
