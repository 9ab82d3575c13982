"""Tally, with the requests as batches on one stream."""

import asyncio
from collections.abc import AsyncIterator
from typing import Self

from loadtests.bench.events import Request
from loadtests.bench.tally import Reached, Tally, lay_out
from tally.client import Batch, Receipt, Refusal

_BUSY_S = 0.1


class TallyStream(Tally):
    """StreamEvents, by the client library: one stream for all callers."""

    def __init__(self, reached: Reached) -> None:
        super().__init__(reached)
        self._batches: asyncio.Queue[Batch | None] = asyncio.Queue()
        self._waiting: dict[str, asyncio.Future[Receipt | Refusal]] = {}

    async def __aenter__(self) -> Self:
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._batches.put_nowait(None)
        await asyncio.gather(self._reading, return_exceptions=True)

    async def send(self, request: Request) -> None:
        batch = self.client.batch(lay_out(request))
        while isinstance(outcome := await self._try(batch), Refusal):
            if outcome.code != "RESOURCE_EXHAUSTED":
                raise RuntimeError(f"refused: {outcome}")
            await asyncio.sleep(_BUSY_S)

    async def _try(self, batch: Batch) -> Receipt | Refusal:
        if self._reading.done():
            raise RuntimeError("the stream has ended")
        outcome: asyncio.Future[Receipt | Refusal] = asyncio.get_running_loop().create_future()
        self._waiting[batch.request_id] = outcome
        self._batches.put_nowait(batch)
        return await outcome

    async def _read(self) -> None:
        try:
            async for outcome in self.client.stream(self._each()):
                self._waiting.pop(outcome.request_id).set_result(outcome)
        except Exception as error:
            for waiting in self._waiting.values():
                waiting.set_exception(error)
            raise

    async def _each(self) -> AsyncIterator[Batch]:
        while (batch := await self._batches.get()) is not None:
            yield batch
