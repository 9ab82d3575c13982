"""A stop signal shared by many waits: of a server, or of the calls to a shard."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


class Stopped(Exception):
    """The end has come, and what was waited for has not."""


class Stopping:
    """Wakes all waits at once, so that an idle stream, for one, does not use up the grace of a server."""

    def __init__(self) -> None:
        self.begun = False
        self._waits: set[asyncio.Timeout] = set()

    def begin(self) -> None:
        """End all waits, those under way and those to come."""
        self.begun = True
        for wait in self._waits:
            with suppress(RuntimeError):  # it has just come to its own end
                wait.reschedule(0)

    async def unless_stopped(self, awaitable: Awaitable[T], until: float | None = None) -> T:
        """Await it. Raises Stopped when the end comes first; the awaitable is then cancelled.

        `until`, by the event loop's clock, is when it raises Stopped at the latest.
        """
        try:
            # a timeout without a time is a wait that `begin` can end; it costs no task and no timer
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
