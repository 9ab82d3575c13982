"""The circuit breaker of a client: while it is open, calls wait instead of failing."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from tally.contract.breaker import Breaker, BreakerState


class WaitingBreaker:
    """Every `enter` is followed by one `leave`. `failures` in a row open it, for `reset_after_s` seconds."""

    def __init__(self, now: Callable[[], float], *, failures: int = 5, reset_after_s: float = 1.0) -> None:
        """`now`: the time of the event loop, in seconds."""
        self._breaker = Breaker("the service", failures=failures, reset_after_s=reset_after_s, now=now)
        self._is_over = False
        self._changed = asyncio.Event()

    async def enter(self) -> int:
        """Wait until a call may be made. Returns the argument for `leave`."""
        while not self._is_over and (wait_s := self._breaker.wait_s) != 0.0:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
        return self._breaker.begin()

    def leave(self, begun: int, *, has_failed: bool | None) -> bool:
        """Say how the call ended, as `Breaker.end` has it. True if that opened the circuit."""
        was_closed = self._breaker.state is BreakerState.CLOSED
        has_opened = self._breaker.end(begun, has_failed=has_failed)
        if has_opened or not was_closed:
            self._tell()
        return has_opened

    def give_way(self) -> None:
        """Stop limiting: the client is closed, and all requests end with errors."""
        self._is_over = True
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
