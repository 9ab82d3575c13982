"""How old a replica's data can be, by the newest change and the time. No I/O.

A *freshness query* is two statements: the first renews the replica's row and commits, the second reads, in a new
snapshot, Postgres's time and newest change. What is told counts from the sending of the first statement, and only once
the change that was told has been applied. PutRules relies on both: it reads the row, and no older statement than the
second can have missed what it committed.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from tally.contract.errors import RightsStale

# It goes on while the machine is suspended, which the monotonic clock of Linux does not.
_SINCE_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def seconds_since_boot() -> float:
    """By the machine's boot-time clock."""
    return time.clock_gettime(_SINCE_BOOT)


@dataclass(frozen=True, slots=True)
class Told:
    """The answer to a freshness query."""

    asked_at: float
    """when the first statement was sent, in seconds since boot"""
    read_at: float
    """when the second was sent"""
    answered_at: float
    change: int
    postgres_us: int
    """Postgres's clock, at some time between `read_at` and `answered_at`"""


class Freshness:
    """The last answer whose change was applied."""

    def __init__(
        self, max_staleness_seconds: float, drift_ppm: float, now: Callable[[], float] = seconds_since_boot
    ) -> None:
        self._max_staleness_seconds = max_staleness_seconds
        self._drift = drift_ppm / 1_000_000
        self._now = now
        self._pending: Told | None = None
        self._fresh: Told | None = None

    def tell(self, told: Told, applied_change: int) -> None:
        """An answer came."""
        self._pending = told
        self.apply(applied_change)

    def apply(self, change: int) -> None:
        """The changes up to this one are in the view that answers."""
        if self._pending is not None and self._pending.change <= change:
            self._fresh = self._pending

    def begin_anew(self) -> None:
        """Discard the earlier answers."""
        self._pending = self._fresh = None

    @property
    def stale_seconds(self) -> float:
        """How old the last answer is whose change was applied."""
        return float("inf") if self._fresh is None else self._now() - self._fresh.asked_at

    def check(self) -> None:
        """Raises RightsStale when the rules may have changed too long ago."""
        if self.stale_seconds > self._max_staleness_seconds:
            raise RightsStale(
                f"this replica of the catalog has had no news of the rules from Postgres for more than "
                f"{self._max_staleness_seconds:g} s, so it cannot be sure what it may show; ask another replica, or "
                "again when Postgres can be reached"
            )

    def present(self) -> tuple[int, int]:
        """The first and the last instant that can be now by Postgres's clock, in µs since 1970-01-01 UTC.

        Raises RightsStale.
        """
        self.check()
        told = self._pending or self._fresh
        assert told is not None  # noqa: S101 - check() has seen to it
        now = self._now()
        drift = (now - told.answered_at) * self._drift
        earliest = now - told.answered_at - drift
        latest = now - told.read_at + drift
        return told.postgres_us + int(earliest * 1_000_000) - 1, told.postgres_us + int(
            latest * 1_000_000
        ) + 1
