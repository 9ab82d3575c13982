"""A batcher whose transport does as a test says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TypeAlias

from tally.client import Batching, Receipt, TallyError
from tally.client._buffering.batcher import Batcher
from tally.client._buffering.buffer import Awaited
from tally.client._delivery.sending import Sender
from tally.client.request_id import RequestIds
from tests.unit.tally.transport import Transport

Future: TypeAlias = "asyncio.Future[Receipt]"


@dataclass
class Case:
    """A batcher and its transport."""

    batcher: Batcher[Future]
    transport: Transport

    def add(self, *videos: str) -> list[Future]:
        return [self.add_one(video) for video in videos]

    def add_one(self, video: str, awaited: Awaited | None = None) -> Future:
        future: Future = asyncio.get_running_loop().create_future()
        self.batcher.add(video, "view", None, None, "", future, awaited)
        return future


@asynccontextmanager
async def open_case(batching: Batching | None = None, answer_s: float = 0.1) -> AsyncIterator[Case]:
    """At the end, everything has an end. What failed is for the test to say."""
    loop = asyncio.get_running_loop()
    transport = Transport(answer_s=answer_s)
    sender = Sender(transport, RequestIds())
    case = Case(Batcher(sender, batching or Batching(), loop.call_soon), transport)
    yield case
    with suppress(TallyError):
        await case.batcher.close(100_000)
    assert case.batcher.progress.buffered_events == 0
    assert case.batcher.progress.in_flight_requests == 0


def names(count: int, start: int = 0) -> list[str]:
    return [f"v{n}" for n in range(start, start + count)]
