"""Receives requests, a few at a time, so that the memory of requests that are still arriving is bounded too.

gRPC holds at most the HTTP/2 window (64 KiB) of a request that nobody reads, and as much as arrives of one that is
read. Its size is known only when all of it is there. So each read takes a slot, and the bound of what is arriving is
slots times the largest message.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from libs.domain.errors import InvalidRequest, Overloaded, Unavailable, Violation

_RETRY_AFTER_S = 0.2

Read = Callable[[], Awaitable[Any]]
"""Reads a message of a call, as bytes; `grpc.aio.EOF` when there is none."""


class Intake:
    """Receives at most `slots` requests at once; other calls wait for a slot, unread, first come first served.

    While calls wait, a read that takes longer than `timeout_s` is ended, so a sender that is frozen or slow does not
    keep its slot; so is a wait that takes longer.
    """

    def __init__(self, slots: int, timeout_s: float) -> None:
        self._free = slots
        self._timeout_s = timeout_s
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._reads: set[asyncio.Timeout] = set()

    async def receive(self, read: Read) -> bytes:
        """The one request of a call.

        Raises Overloaded when it got no slot in time, Unavailable when it did not arrive in time, InvalidRequest when
        the call ended without a request.
        """
        if self._free:
            self._free -= 1
        else:
            await self._wait_for_slot()
        # Without a time this costs no timer; it gets one when somebody waits.
        patience = asyncio.timeout(None) if not self._waiting else asyncio.timeout(self._timeout_s)
        self._reads.add(patience)
        try:
            async with patience:
                data = await read()
        except TimeoutError:
            if not patience.expired():
                raise
            raise Unavailable(
                f"the request did not arrive within {self._timeout_s:g} s, and other calls wait; send the same again"
            ) from None
        finally:
            self._reads.discard(patience)
            self._hand_on_slot()
        if data is grpc.aio.EOF:
            raise InvalidRequest([Violation("request", "must be sent; the call ended without one")])
        return data  # type: ignore[no-any-return]  # gRPC's read has no types

    async def _wait_for_slot(self) -> None:
        loop = asyncio.get_running_loop()
        for patience in self._reads:
            if patience.when() is None:
                patience.reschedule(loop.time() + self._timeout_s)
        slot: asyncio.Future[None] = loop.create_future()
        self._waiting.append(slot)
        try:
            async with asyncio.timeout(self._timeout_s):
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
