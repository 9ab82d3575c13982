"""Postgres's clock, as seen from a service: the one clock that ids and receipts are judged by."""

import time
from typing import Any

_NOW = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint"


class ServerClock:
    """Reads Postgres's clock now and then and goes on from there by the machine's monotonic clock.

    What it tells is never ahead of Postgres (but for the drift of two clocks since the last reading), and behind
    it by at most `uncertainty_seconds`: the reading may have been taken when the question had just been sent.
    """

    def __init__(self) -> None:
        self._reading_us = 0
        self._taken_at = 0.0
        self.uncertainty_seconds = float("inf")

    async def read(self, connection: Any) -> None:
        """Take a reading over an asyncpg connection or pool."""
        asked = time.monotonic()
        reading_us = await connection.fetchval(_NOW)
        answered = time.monotonic()
        self._reading_us, self._taken_at = reading_us, answered
        self.uncertainty_seconds = answered - asked

    def monotonic(self) -> float:
        return time.monotonic()

    def now_us(self) -> int:
        """Microseconds since 1970-01-01 UTC by Postgres's clock."""
        return self._reading_us + int((time.monotonic() - self._taken_at) * 1_000_000)
