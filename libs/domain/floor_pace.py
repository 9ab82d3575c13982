"""How far the floor may be raised now. Pure; see ADR 15.

A floor that lags is always safe. One that is too high refuses every write below it. So a single reading of a clock
never raises it: two clocks have to agree for a while, and a third one, the time since boot, limits the speed.
"""

from dataclasses import dataclass

from libs.domain.horizon import FLOOR_BEHIND_DOOR_MS, floor_ms_at

AGREEMENT_MS = 1_000
"""Largest difference between two clocks that agree."""
STEADY_SECONDS = 120.0
"""How long both clocks must have agreed, and run like the boot-time clock."""
CATCHING_UP_SPEED = 24.0
"""Fastest rise after a start, relative to real time: an hour of wrong clocks raises the floor by a day at most, and
the floor is more than a day old."""
FOLLOWING_SPEED = 1.1
"""Fastest rise once the floor has been where it belongs."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was read at one moment."""

    floor_ms: int
    """the cluster's floor, in milliseconds since 1970-01-01 UTC"""
    postgres_ms: int
    machine_ms: int
    elapsed_seconds: float
    """by the boot-time clock, since any fixed moment"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Where the floor may be now; never below where it is."""

    floor_ms: int
    alarm: str = ""
    """why it is held back although it should not be, or what else is wrong with it; empty: all is well"""


class FloorPace:
    """Judges look after look of one process.

    The limit holds for all processes together: each allows no more than the floor that it found at its start, plus its
    speed times the real time since. No number of processes or restarts raises the floor faster than
    `CATCHING_UP_SPEED` times real time.
    """

    def __init__(self) -> None:
        self._last: Look | None = None
        self._steady_since = 0.0
        self._has_caught_up = False
        self._base_ms = 0
        self._base_at = 0.0

    def judge(self, look: Look) -> Verdict:
        """Take note of a look, and tell how far the floor may be raised. Looks come every half minute or so."""
        last, self._last = self._last, look
        apart_ms = look.postgres_ms - look.machine_ms
        are_apart = abs(apart_ms) > AGREEMENT_MS
        is_steady = last is not None and not are_apart and abs(_jump_ms(last, look)) <= AGREEMENT_MS
        if not is_steady:
            self._steady_since = look.elapsed_seconds
        # While the floor catches up, only time in which the clocks were steady counts.
        is_new = last is None or (not is_steady and not self._has_caught_up)
        was_lowered = last is not None and look.floor_ms < last.floor_ms
        if is_new or was_lowered:
            self._base_ms, self._base_at = look.floor_ms, look.elapsed_seconds
        if are_apart:
            return Verdict(
                look.floor_ms,
                f"the floor is not raised: Postgres's clock and this machine's differ by {_seconds(apart_ms)}",
            )
        if look.elapsed_seconds - self._steady_since < STEADY_SECONDS:
            return Verdict(look.floor_ms)
        return self._judge_steady(look, floor_ms_at(_now_ms(look)))

    def _judge_steady(self, look: Look, wanted_ms: int) -> Verdict:
        speed = FOLLOWING_SPEED if self._has_caught_up else CATCHING_UP_SPEED
        allowed_ms = self._base_ms + int((look.elapsed_seconds - self._base_at) * 1000 * speed)
        if wanted_ms > allowed_ms:
            return Verdict(
                max(allowed_ms, look.floor_ms),
                f"the floor is held back: both clocks are {_seconds(wanted_ms - allowed_ms)} further than time has "
                "passed since it was raised. If they are right now, restart the counting services: in a new process "
                "the floor catches up, a day in an hour"
                if self._has_caught_up
                else "",
            )
        self._has_caught_up = True
        self._base_ms, self._base_at = max(wanted_ms, look.floor_ms), look.elapsed_seconds
        ahead_ms = look.floor_ms - wanted_ms
        return Verdict(
            self._base_ms,
            f"the floor is {_seconds(ahead_ms)} ahead of where it belongs, so shards refuse requests that are not too "
            "old. `tally floor show` tells whether it can be lowered"
            if ahead_ms > FLOOR_BEHIND_DOOR_MS
            else "",
        )


def _now_ms(look: Look) -> int:
    return min(look.postgres_ms, look.machine_ms)


def _jump_ms(last: Look, look: Look) -> int:
    """How much further the clocks ran between two readings than the boot-time clock."""
    elapsed_ms = int((look.elapsed_seconds - last.elapsed_seconds) * 1000)
    return _now_ms(look) - _now_ms(last) - elapsed_ms


def _seconds(ms: int) -> str:
    return f"{ms / 1000:+,.1f} s"
