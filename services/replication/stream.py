"""The receiver's call of `Sync`: frames are applied one after the other, and acknowledged after the commit."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import grpc

from tally.contract.status import error_from_rpc
from tally.replication.v1 import peers_pb2 as pb


class Stream:
    """One stream of a lane, as long as it lives."""

    def __init__(self) -> None:
        self._requests: asyncio.Queue[pb.SyncRequest] = asyncio.Queue()

    async def send(self, request: pb.SyncRequest) -> None:
        """Ask the owner for something."""
        await self._requests.put(request)

    async def run(
        self,
        stub: Any,
        subscription: pb.Subscribe,
        apply: Callable[[pb.SyncResponse], Awaitable[None]],
        on_progress: Callable[[], Awaitable[None]],
        *beside: Coroutine[Any, Any, None],
    ) -> None:
        """Subscribe, and apply frames until the stream ends or breaks, or one of the coroutines `beside` it does.

        `on_progress` is called after the first frame. Raises TallyError, and what these raise.
        """
        await self.send(pb.SyncRequest(subscribe=subscription))
        call = stub.Sync(self._write())
        tasks = [asyncio.create_task(each) for each in (self._read(call, apply, on_progress), *beside)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                each.result()
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error) from error
        finally:
            call.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(
        self,
        call: Any,
        apply: Callable[[pb.SyncResponse], Awaitable[None]],
        on_progress: Callable[[], Awaitable[None]],
    ) -> None:
        is_first = True
        async for response in call:
            await apply(response)
            if is_first:
                await on_progress()
                is_first = False
            await self.send(pb.SyncRequest(ack=pb.Ack(frame=response.frame, credit=1)))

    async def _write(self) -> AsyncIterator[pb.SyncRequest]:
        while True:
            yield await self._requests.get()
