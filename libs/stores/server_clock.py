"""Postgres's clock, as seen from a service: the only clock for ids and receipts.

A service does not use its own machine's clock for them. It still compares the two: if they differ, one is wrong, and
so may be the times of logs and traces, and the ids that clients on the machine make. If Postgres's clock jumps and
the machine's does not, Postgres's is assumed to be wrong: the jump is ignored.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tally.contract.errors import NotReady

_NOW = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint"
_LONGEST_READING_SECONDS = 1.0
_MOST_OFFSET_SECONDS = 1.0
_TRIES = 5
_SILENCE_SECONDS = 5.0
# It goes on while the machine is suspended, which the monotonic clock of Linux does not.
_SINCE_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


@dataclass(frozen=True, slots=True)
class Reading:
    """Three clocks at one moment."""

    postgres_us: int
    """microseconds since 1970-01-01 UTC, at some time within the reading"""
    taken_at: float
    """when the answer came, in seconds by the machine's boot-time clock"""
    uncertainty_seconds: float
    """how long the reading took"""
    offset_seconds: float
    """how far the machine's clock was ahead of Postgres's, at least; negative: behind"""

    @property
    def agrees(self) -> bool:
        """Whether the machine's clock was within a second of Postgres's."""
        return abs(self.offset_seconds) <= _MOST_OFFSET_SECONDS

    @property
    def machine_us(self) -> int:
        """The machine's clock, as far from Postgres's as is certain."""
        return self.postgres_us + int(self.offset_seconds * 1_000_000)

    def now_us(self) -> int:
        """Postgres's clock now, if it has gone on since as the clock that nobody sets."""
        return self.postgres_us + int((time.clock_gettime(_SINCE_BOOT) - self.taken_at) * 1_000_000)


async def read_clocks(connection: Any, wall: Callable[[], float] = time.time) -> Reading | None:
    """Read Postgres's clock and the machine's (`wall`) over an asyncpg connection or pool.

    A reading that took more than a second is not used: if this process was frozen meanwhile, it is as old as that
    took. None when all of some tries took so long.
    """
    for _ in range(_TRIES):
        asked, wall_asked = time.clock_gettime(_SINCE_BOOT), wall()
        async with asyncio.timeout(_SILENCE_SECONDS):
            reading_us = await connection.fetchval(_NOW)
        answered, wall_answered = time.clock_gettime(_SINCE_BOOT), wall()
        if answered - asked <= _LONGEST_READING_SECONDS:
            offset = _offset(wall_asked, wall_answered, reading_us / 1_000_000)
            return Reading(reading_us, answered, answered - asked, offset)
    return None


class ServerClock:
    """Reads Postgres's clock periodically, and continues from each reading by the machine's boot-time clock.

    What it tells is never ahead of Postgres (but for the drift of two clocks since the last reading), and behind
    it by at most `uncertainty_seconds`: the reading may have been taken when the question had just been sent.

    Two exceptions. Before the first reading it goes by the machine's clock. And when Postgres's clock jumps while the
    machine's goes on as before, it stays with the latter two until they agree again; `agrees` is false meanwhile.
    """

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        """`wall` is the machine's own clock: seconds since 1970-01-01 UTC."""
        self._wall = wall
        self._reading_us = int(wall() * 1_000_000)
        self._taken_at = time.clock_gettime(_SINCE_BOOT)
        self._was_trusted = False
        self.is_read = False
        self.uncertainty_seconds = float("inf")
        self.offset_seconds = 0.0
        """how far the machine's clock was ahead of Postgres's at the last reading, at least; negative: behind"""

    @property
    def agrees(self) -> bool:
        """Whether the machine's clock was within a second of Postgres's; true before the first reading."""
        return abs(self.offset_seconds) <= _MOST_OFFSET_SECONDS

    async def read(self, connection: Any) -> None:
        """Take a reading over an asyncpg connection or pool.

        When it takes too long, the former reading stays. Raises NotReady where there is none, and TimeoutError when the
        server is silent.
        """
        reading = await read_clocks(connection, self._wall)
        if reading is not None:
            self.offset_seconds = reading.offset_seconds
            if not self._is_jump_of_postgres(reading):
                self._reading_us, self._taken_at = reading.postgres_us, reading.taken_at
                self.uncertainty_seconds = reading.uncertainty_seconds
                self._was_trusted = reading.agrees
            self.is_read = True
        elif not self.is_read:
            raise NotReady(
                f"Postgres took more than {_LONGEST_READING_SECONDS:g} s to say what time it is, {_TRIES} times. "
                "Look at its load and at the way to it"
            )

    def monotonic(self) -> float:
        return time.monotonic()

    def now_us(self) -> int:
        """Microseconds since 1970-01-01 UTC by Postgres's clock."""
        return self._reading_us + int((time.clock_gettime(_SINCE_BOOT) - self._taken_at) * 1_000_000)

    def _is_jump_of_postgres(self, reading: Reading) -> bool:
        """Whether the machine's clock is where an earlier reading, which agreed with it, makes one expect both."""
        if reading.agrees or not self._was_trusted:
            return False
        expected = self.now_us() / 1_000_000
        has_jumped = abs(reading.postgres_us / 1_000_000 - expected) > _MOST_OFFSET_SECONDS
        # Both may have been apart by up to a second before.
        return has_jumped and abs(self._wall() - expected) <= 2 * _MOST_OFFSET_SECONDS


def _offset(asked: float, answered: float, reading: float) -> float:
    """The reading was taken somewhere between; what lies between is no difference."""
    if reading < asked:
        return asked - reading
    return min(0.0, answered - reading)
