"""The blocking client behind the methods of the asynchronous one, so that one suite tests both.

Each call waits in a thread of its own, for the peer runs on the event loop of the test.
"""

import asyncio
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any

from tally.client import Batch, Event, Receipt, Refusal, blocking

AT_ONCE = frozenset({"batch", "make_request_id"})
"""What the asynchronous client answers without an await."""


async def in_thread(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """The result of a call in a new thread; whoever is cancelled leaves the thread behind."""
    result: Future[Any] = Future()

    def run() -> None:
        try:
            result.set_result(call(*args, **options))
        except BaseException as error:  # noqa: BLE001 - the caller raises it
            result.set_exception(error)

    result.set_running_or_notify_cancel()
    threading.Thread(target=run, daemon=True).start()
    return await asyncio.shield(asyncio.wrap_future(result))


class Threaded:
    """An open client."""

    def __init__(self, client: blocking.Client) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if name in AT_ONCE or not callable(found):
            return found

        async def call(*args: Any, **options: Any) -> Any:
            return await in_thread(found, *args, **options)

        return call

    async def submit(self, *args: Any, **options: Any) -> "asyncio.Future[Receipt]":
        return asyncio.wrap_future(await in_thread(self._client.submit, *args, **options))

    async def submit_event(self, event: Event) -> "asyncio.Future[Receipt]":
        return asyncio.wrap_future(await in_thread(self._client.submit_event, event))

    async def stream(
        self, batches: AsyncIterable[Batch] | Iterable[Batch], **options: Any
    ) -> AsyncIterator[Receipt | Refusal]:
        source = batches if isinstance(batches, Iterable) else _iterate(batches, asyncio.get_running_loop())
        outcomes = self._client.stream(source, **options)
        try:
            while (outcome := await in_thread(next, outcomes, None)) is not None:
                yield outcome
        finally:
            await in_thread(outcomes.close)


@asynccontextmanager
async def open_threaded(address: str, **options: Any) -> AsyncIterator[Threaded]:
    """A blocking client, closed at the end as by its own `with`."""
    client = blocking.Client(address, **options)
    try:
        yield Threaded(client)
    except BaseException as error:
        await in_thread(client.__exit__, type(error), error, error.__traceback__)
        raise
    await in_thread(client.close)


def _iterate(batches: AsyncIterable[Batch], loop: asyncio.AbstractEventLoop) -> Iterator[Batch]:
    """The batches in a thread: each is made on the event loop, while the thread waits."""

    async def take() -> Batch | None:
        return await anext(iterator, None)

    iterator = aiter(batches)
    while (batch := asyncio.run_coroutine_threadsafe(take(), loop).result(20)) is not None:
        yield batch
