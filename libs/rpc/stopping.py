"""The end of a server, as those see it who wait for a client that has nothing to say."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


class Stopped(Exception):
    """The server stops, and what was waited for has not come."""


class Stopping:
    """Wakes all waits at once when the server stops, so that an idle stream does not use up the grace."""

    def __init__(self) -> None:
        self.begun = False
        self._waits: set[asyncio.Timeout] = set()

    def begin(self) -> None:
        """End all waits, those under way and those to come."""
        self.begun = True
        for wait in self._waits:
            wait.reschedule(0)

    async def unless_stopped(self, awaitable: Awaitable[T], until: float | None = None) -> T:
        """Await it. Raises Stopped when the server stops first; the awaitable is then cancelled.

        `until`, by the event loop's clock, is when it raises Stopped at the latest.
        """
        try:
            # a time-out without a time is a wait that `begin` can end; it costs no task and no timer
            async with asyncio.timeout_at(0 if self.begun else until) as wait:
                self._waits.add(wait)
                try:
                    return await awaitable
                finally:
                    self._waits.discard(wait)
        except TimeoutError:
            if wait.expired():
                raise Stopped from None
            raise
