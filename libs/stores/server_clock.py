"""Postgres's clock, as seen from a service: the one clock that ids and receipts are judged by.

A service never judges by its own machine's clock. That one is compared all the same: where it is far off, so are the
times of logs and traces, and those that clients on the machine make their ids with; and one of the two is wrong.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from libs.domain.errors import NotReady

_NOW = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint"
_LONGEST_READING_SECONDS = 1.0
_MOST_OFFSET_SECONDS = 1.0
_TRIES = 5
_SILENCE_SECONDS = 5.0
# It goes on while the machine is suspended, which the monotonic clock of Linux does not.
_SINCE_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class ServerClock:
    """Reads Postgres's clock now and then and goes on from there by a clock of the machine's that nobody sets.

    What it tells is never ahead of Postgres (but for the drift of two clocks since the last reading), and behind
    it by at most `uncertainty_seconds`: the reading may have been taken when the question had just been sent.
    """

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        """`wall` is the machine's own clock: seconds since 1970-01-01 UTC."""
        self._wall = wall
        self._reading_us = 0
        self._taken_at = 0.0
        self.uncertainty_seconds = float("inf")
        self.offset_seconds = 0.0
        """how far the machine's clock was ahead of Postgres's at the last reading, at least; negative: behind"""

    @property
    def agrees(self) -> bool:
        """Whether the machine's clock was within a second of Postgres's."""
        return abs(self.offset_seconds) <= _MOST_OFFSET_SECONDS

    async def read(self, connection: Any) -> None:
        """Take a reading over an asyncpg connection or pool.

        One that took more than a second is not used: if this process was frozen meanwhile, it is as old as that
        took. The former reading stays then. Raises NotReady where there is none, and TimeoutError when the server is
        silent.
        """
        for _ in range(_TRIES):
            asked, wall_asked = time.clock_gettime(_SINCE_BOOT), self._wall()
            async with asyncio.timeout(_SILENCE_SECONDS):
                reading_us = await connection.fetchval(_NOW)
            answered, wall_answered = time.clock_gettime(_SINCE_BOOT), self._wall()
            if answered - asked <= _LONGEST_READING_SECONDS:
                self._reading_us, self._taken_at = reading_us, answered
                self.uncertainty_seconds = answered - asked
                self.offset_seconds = _offset(wall_asked, wall_answered, reading_us / 1_000_000)
                return
        if not self._reading_us:
            raise NotReady(
                f"Postgres took more than {_LONGEST_READING_SECONDS:g} s to say what time it is, {_TRIES} times. "
                "Look at its load and at the way to it"
            )

    def monotonic(self) -> float:
        return time.monotonic()

    def now_us(self) -> int:
        """Microseconds since 1970-01-01 UTC by Postgres's clock."""
        return self._reading_us + int((time.clock_gettime(_SINCE_BOOT) - self._taken_at) * 1_000_000)


def _offset(asked: float, answered: float, reading: float) -> float:
    """The reading was taken somewhere between; what lies between is no difference."""
    if reading < asked:
        return asked - reading
    return min(0.0, answered - reading)
