"""Receives requests, a few at a time, so that the memory of requests that are still arriving is bounded too.

gRPC buffers at most the HTTP/2 window (64 KiB) of an unread request, and all that arrives of a request that is being
read. Its size is known only when it is complete. So each read takes a slot, and the bound on arriving requests is
slots times the largest message.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, cast

import grpc

from tally.contract.errors import InvalidRequest, Overloaded, Unavailable, Violation

_RETRY_AFTER_S = 0.2
_WAIT_FACTOR = 2

Read = Callable[[], Awaitable[Any]]
"""Reads a message of a call, as bytes; `grpc.aio.EOF` when there is none."""


class Intake:
    """Receives at most `slots` requests at once; other calls wait for a slot, unread, first come first served.

    While calls wait, a read that takes longer than `timeout_s` is ended, so that a sender that is frozen or slow does
    not keep its slot. A call waits twice as long: the slots are free by then, unless many wait.
    """

    def __init__(self, slots: int, timeout_s: float) -> None:
        self._free = slots
        self._timeout_s = timeout_s
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._reading: set[asyncio.Task[Any]] = set()
        self._overdue: set[asyncio.Task[Any]] = set()

    async def receive(self, read: Read) -> bytes:
        """The one request of a call.

        Raises Overloaded when it got no slot in time, Unavailable when it did not arrive in time, InvalidRequest when
        the call ended without a request.
        """
        if self._free:
            self._free -= 1
        else:
            await self._wait_for_slot()
        # Every call comes this way, and asyncio.timeout would cost it 5 % of its time: only contention sets timers.
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._reading.add(task)
        if self._waiting:
            self._limit([task])
        try:
            data = await read()
        except asyncio.CancelledError:
            if task in self._overdue and not task.uncancel():
                raise Unavailable(
                    f"the request did not arrive within {self._timeout_s:g} s, and others wait; send the same again"
                ) from None
            raise
        finally:
            self._reading.discard(task)
            self._overdue.discard(task)
            self._hand_on_slot()
        if data is grpc.aio.EOF:
            raise InvalidRequest([Violation("request", "must be sent; the call ended without one")])
        return data  # type: ignore[no-any-return]  # gRPC's read has no types

    def _limit(self, tasks: Iterable[asyncio.Task[Any]]) -> None:
        """Let reads of these tasks that are under way end in time."""
        asyncio.get_running_loop().call_later(self._timeout_s, self._end, list(tasks))

    def _end(self, tasks: Iterable[asyncio.Task[Any]]) -> None:
        for task in self._reading.intersection(tasks) - self._overdue:
            self._overdue.add(task)
            task.cancel()

    async def _wait_for_slot(self) -> None:
        if not self._waiting:
            self._limit(self._reading)
        slot: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(slot)
        try:
            async with asyncio.timeout(_WAIT_FACTOR * self._timeout_s):
                await slot
        except BaseException as error:
            if slot.done() and not slot.cancelled():  # handed on just when the wait ended
                self._hand_on_slot()
            if isinstance(error, TimeoutError):
                raise Overloaded(
                    "too many requests are arriving at once; send the same request again later",
                    retry_after_s=_RETRY_AFTER_S,
                    nothing_done=True,
                ) from None
            raise

    def _hand_on_slot(self) -> None:
        while self._waiting:
            slot = self._waiting.popleft()
            if not slot.done():
                slot.set_result(None)
                return
        self._free += 1
