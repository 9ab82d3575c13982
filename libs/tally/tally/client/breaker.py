"""A circuit breaker, after M. Nygard's "Release It!": who does not answer is left alone, then asked once.

The services use pybreaker; what a user installs has as few dependencies as it can, and pybreaker would need the
same care around it: it cannot wait for a coroutine, takes a cancellation for a failure, and lets every caller in
while it is half-open.
"""

import asyncio
from collections.abc import Awaitable, Callable


class Breaker:
    """Closed lets all calls through; open none; half-open one at a time, the probe.

    `failures` in a row open it, for `reset_after_s` seconds. Every `enter` is followed by one `leave`.
    """

    def __init__(
        self,
        now: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        *,
        failures: int = 5,
        reset_after_s: float = 1.0,
    ) -> None:
        """`now`: monotonic seconds."""
        self._now = now
        self._sleep = sleep
        self._most_failures = failures
        self._reset_after_s = reset_after_s
        self._failures = 0
        self._opened_at: float | None = None
        self._is_probing = False
        self._life = 0
        self._changed = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Whether calls are held back."""
        return self._opened_at is not None

    async def enter(self) -> int:
        """Wait until a call may be made. Returns what `leave` wants to be told."""
        while self._opened_at is not None:
            wait_s = self._opened_at + self._reset_after_s - self._now()
            if wait_s > 0:
                await self._sleep(wait_s)
            elif self._is_probing:
                await self._changed.wait()
            else:
                self._is_probing = True
                break
        return self._life

    def leave(self, life: int, *, has_failed: bool | None) -> None:
        """Say how the call ended; None, as for a cancelled call, says nothing of the service.

        A call that began in another state than the one it ends in is not counted: it speaks of the past.
        """
        if life != self._life:
            return
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

    def _change(self, opened_at: float | None) -> None:
        self._opened_at = opened_at
        self._failures = 0
        self._is_probing = False
        self._life += 1
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
