"""The client for threads and scripts: the asynchronous one, on an event loop in a thread of its own."""

import asyncio
import os
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import suppress
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

import grpc

from tally.client import client
from tally.client.answers import Receipt, Refusal
from tally.client.columns import Batch, Columns
from tally.client.errors import ClientUnusable
from tally.client.events import Event
from tally.client.request_id import RequestIds

P = ParamSpec("P")
T = TypeVar("T")


def _blocking(
    method: Callable[Concatenate[client.Client, P], Coroutine[Any, Any, T]],
) -> "Callable[Concatenate[Client, P], T]":
    """The same method, which waits for its result."""

    @wraps(method)
    def call(self: "Client", *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(method(self._client, *args, **kwargs))

    # Without the cast, mypy keeps the name of the first parameter, and a method is no plain callable.
    return cast("Callable[Concatenate[Client, P], T]", call)


class Client:
    """Counts events and reads counts; any number of threads may use one client.

        with Client("127.0.0.1:50051") as client:
            client.count("MBdVXkSdhwU")

    The methods are those of tally.client.Client. A client does not survive a fork: open one in each process.
    """

    count = _blocking(client.Client.count)
    process = _blocking(client.Client.process)
    process_many = _blocking(client.Client.process_many)
    get_views_count = _blocking(client.Client.get_views_count)
    get_count = _blocking(client.Client.get_count)
    get_stats = _blocking(client.Client.get_stats)
    partition_map = _blocking(client.Client.partition_map)
    list_logs = _blocking(client.Client.list_logs)
    audit = _blocking(client.Client.audit)
    health = _blocking(client.Client.health)

    def __init__(
        self,
        address: str,
        *,
        timeout: float = client.DEFAULT_TIMEOUT_S,
        credentials: grpc.ChannelCredentials | None = None,
        request_ids: RequestIds | None = None,
    ) -> None:
        """Starts the thread; nothing is connected before the first call. See tally.client.Client."""
        self._client = client.Client(
            address, timeout=timeout, credentials=credentials, request_ids=request_ids
        )
        self._process = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_serve, args=(self._loop,), name="tally-client", daemon=True)
        self._thread.start()
        self._closed = False
        # Held from the check to the submission: what the loop is given before it closes, it still sees.
        self._submitting = threading.Lock()
        # A client that nobody closed ends its thread when it is forgotten, or with the program.
        self._stop = weakref.finalize(self, _stop, self._loop, self._thread, self._process)
        self._run(self._client.__aenter__())

    @property
    def address(self) -> str:
        """Where the service is: host:port."""
        return self._client.address

    def batch(self, events: Iterable[Event] | Columns, *, request_id: str | None = None) -> Batch:
        """Make a batch for `stream`: 1 to 50,000 events under one request id."""
        return self._client.batch(events, request_id=request_id)

    def stream(
        self, batches: Iterable[Batch], *, timeout: float | None = None
    ) -> Iterator[Receipt | Refusal]:
        """Send batches on one stream and yield what became of each; see tally.client.Client.stream.

        `batches` is read in threads of its own, ahead of the answers.
        """
        outcomes = self._client.stream(_in_threads(batches), timeout=timeout)
        try:
            while (outcome := self._run(_next(outcomes))) is not None:
                yield outcome
        finally:
            with suppress(ClientUnusable):  # the loop ends the stream itself when the client is closed
                self._run(_end(outcomes))

    def close(self) -> None:
        """Take no new calls, wait for those under way as long as the default timeout, and end the thread."""
        if os.getpid() != self._process:
            return
        with self._submitting:
            if self._closed:
                return
            self._closed = True
            closing = asyncio.run_coroutine_threadsafe(self._client.close(), self._loop)
        closing.result()
        self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run it on the client's own loop, and wait."""
        try:
            self._check_process()
            with self._submitting:
                self._check_open()
                future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except ClientUnusable:
            coroutine.close()
            raise
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise ClientUnusable(
                f"the client was opened in process {self._process}, and this is its fork {os.getpid()}. "
                "Open a client in each process, after the fork (gunicorn: in the post_fork hook)",
                reason="CLIENT_FORKED",
            )

    def _check_open(self) -> None:
        if self._closed:
            raise ClientUnusable("the client is closed", reason="CLIENT_CLOSED")
        if threading.current_thread() is self._thread:
            raise ClientUnusable("a blocking call would wait for its own thread", reason="CLIENT_ELSEWHERE")


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    """Run the loop until it is stopped, then end what still runs on it, so that no caller waits for ever."""
    loop.run_forever()
    loop.run_until_complete(_wind_up(loop))
    loop.close()


async def _wind_up(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await loop.shutdown_asyncgens()


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread, process: int) -> None:
    if os.getpid() != process:  # the loop is the parent's
        return
    loop.call_soon_threadsafe(loop.stop)
    if threading.current_thread() is not thread:  # the garbage collector may call from there
        thread.join()


async def _next(outcomes: AsyncGenerator[Receipt | Refusal, None]) -> Receipt | Refusal | None:
    return await anext(outcomes, None)


async def _end(outcomes: AsyncGenerator[Receipt | Refusal, None]) -> None:
    await outcomes.aclose()


async def _in_threads(batches: Iterable[Batch]) -> AsyncIterator[Batch]:
    """Read an iterable that may block without holding up the loop."""
    iterator = iter(batches)
    while (batch := await asyncio.to_thread(next, iterator, None)) is not None:
        yield batch
