"""A circuit breaker, after M. Nygard's "Release It!": who does not answer is left alone, then asked once.

The services use pybreaker; what a user installs has as few dependencies as it can, and pybreaker would need the
same care around it: it cannot wait for a coroutine, takes a cancellation for a failure, and lets every caller in
while it is half-open.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress


class Breaker:
    """Closed lets all calls through; open none; half-open one at a time, the probe.

    `failures` in a row open it, for `reset_after_s` seconds. Every `enter` is followed by one `leave`.
    """

    def __init__(self, now: Callable[[], float], *, failures: int = 5, reset_after_s: float = 1.0) -> None:
        """`now`: the time of the event loop, in seconds."""
        self._now = now
        self._most_failures = failures
        self._reset_after_s = reset_after_s
        self._failures = 0
        self._opened_at: float | None = None
        self._is_probing = False
        self._is_over = False
        self._life = 0
        self._changed = asyncio.Event()

    async def enter(self) -> int:
        """Wait until a call may be made. Returns what `leave` wants to be told."""
        while self._opened_at is not None and not self._is_over:
            wait_s = self._opened_at + self._reset_after_s - self._now()
            if wait_s > 0:
                await self._wait(wait_s)
            elif self._is_probing:
                await self._wait(None)
            else:
                self._is_probing = True
                break
        return self._life

    def give_way(self) -> None:
        """Let everybody through from now on: the client is closed, and they will be told."""
        self._is_over = True
        self._tell()

    def leave(self, life: int, *, has_failed: bool | None) -> bool:
        """Say how the call ended; None, as for a cancelled call, says nothing of the service. True if that opened it.

        A call that began in another state than the one it ends in is not counted: it speaks of the past.
        """
        if life != self._life:
            return False
        if has_failed is None:
            if self._is_probing:
                self._is_probing = False
                self._tell()
        elif not has_failed:
            self._failures = 0
            if self._opened_at is not None:
                self._change(None)
        else:
            self._failures += 1
            if self._is_probing or self._failures >= self._most_failures:
                self._change(self._now())
                return True
        return False

    def _change(self, opened_at: float | None) -> None:
        self._opened_at = opened_at
        self._failures = 0
        self._is_probing = False
        self._life += 1
        self._tell()

    async def _wait(self, longest_s: float | None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                await self._changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
