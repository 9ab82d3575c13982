"""The blocking client for threads and scripts: the asynchronous client on an event loop in its own thread."""

import asyncio
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from contextlib import suppress
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, Self

import grpc

from tally.client import client
from tally.client._buffering.batcher import Batcher
from tally.client._buffering.buffer import Awaited
from tally.client._buffering.ends import NO_PROGRESS, Progress
from tally.client._calls.process import FORK_GUARD
from tally.client._calls.tracing import Tracer
from tally.client._checks.rules import check_value, read_event_time
from tally.client._delivery.sending import still_sending
from tally.client._delivery.transport import TransportName, check_transport
from tally.client._threads.derived import derive_from
from tally.client._threads.loop_thread import LoopThread
from tally.client.answers import Receipt
from tally.client.batching import Batching
from tally.client.columns import Batch, Columns
from tally.client.errors import BufferFull, ClientUnusable
from tally.client.events import Event, check_function
from tally.client.request_id import RequestIds
from tally.client.tls import Tls
from tally.contract.errors import TallyError
from tally.contract.rules import VIEW


class _Future(Future[Receipt]):
    """The future of an event that is being sent; it cannot be cancelled."""

    def cancel(self) -> bool:
        return False


class _Wait:
    """The future of one thread that waits for it at once.

    What a signal raises in one of concurrent.futures may leave its condition locked, and the loop would wait for that.
    Here a thread that waits takes nothing that the loop needs.
    """

    __slots__ = ("_end", "_lock")

    def __init__(self) -> None:
        self._end: Receipt | TallyError | None = None
        self._lock = threading.Lock()
        self._lock.acquire()

    def done(self) -> bool:
        return self._end is not None

    def set_result(self, result: Receipt) -> None:
        self._end = result
        self._lock.release()

    def set_exception(self, exception: TallyError) -> None:
        self._end = exception
        self._lock.release()

    def exception(self) -> TallyError | None:
        return self._end if isinstance(self._end, TallyError) else None

    def wait(self, timeout_s: float) -> Receipt:
        """The receipt; raises the error instead, or TimeoutError."""
        self._lock.acquire(timeout=min(max(0.0, timeout_s), threading.TIMEOUT_MAX))
        if self._end is None:
            raise TimeoutError
        if isinstance(self._end, TallyError):
            raise self._end
        return self._end


class _Run(NamedTuple):
    """What a client has from its first call on."""

    thread: LoopThread
    client: client.Client
    batcher: Batcher[_Future | _Wait]
    forget: "weakref.finalize[..., Client]"
    """ends it, without an error; called when the client is garbage collected, or at exit"""


def _opened(threaded: "Client") -> tuple[LoopThread, client.Client]:
    run = threaded._run  # noqa: SLF001 - it is that of the class below
    return run.thread, run.client


@derive_from(client.Client, _opened, without=frozenset({"open_batcher"}))
class Client:
    """Counts events and reads counts; any number of threads may use one client.

        with Client("127.0.0.1:50051") as client:
            client.count("MBdVXkSdhwU")

    The methods are those of tally.client.Client; `submit` returns a concurrent.futures.Future. A client that was used
    does not survive a fork, and while one is open its forks can have none: close it before, or use it only after.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout: float = client.DEFAULT_TIMEOUT_S,
        batching: Batching | None = None,
        transport: TransportName = "unary",
        credentials: grpc.ChannelCredentials | None = None,
        tls: Tls | None = None,
        token: str | None = None,
        request_ids: RequestIds | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        """The first call starts the thread, so a client that was made before a fork can be used after it.

        See tally.client.Client. Raises ClientUnusable where gRPC cannot work.
        """
        FORK_GUARD.check()
        check_transport(transport)
        ids = request_ids or RequestIds()

        def make() -> client.Client:  # no partial, whose repr would tell the token
            return client.Client(
                address,
                timeout=timeout,
                batching=batching,
                transport=transport,
                credentials=credentials,
                tls=tls,
                token=token,
                request_ids=ids,
                tracer=tracer,
            )

        self._make = make
        self._unopened = make()
        """for what needs no thread"""
        self._timeout_s = timeout
        self._is_patient = (batching or Batching()).when_full == "wait"
        self._room = threading.Condition()
        # One item: what the first call has made, or None if the client was closed before. The first to set it has set
        # it for all; a lock for that could be held by a thread that a fork does not have.
        self._first: dict[str, _Run | None] = {}

    @property
    def address(self) -> str:
        """Where the service is: host:port."""
        return self._unopened.address

    def count(
        self,
        video_id: str,
        event_type: str = VIEW,
        *,
        event_time: datetime | None = None,
        actor_id: str = "",
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Receipt:
        """Count one event, and wait for the receipt of the request in which it went; see tally.client.Client."""
        if request_id is None:
            return self._count(video_id, event_type, event_time, None, actor_id, timeout)
        run = self._run
        return run.thread.run(
            run.client.count(
                video_id,
                event_type,
                event_time=event_time,
                actor_id=actor_id,
                request_id=request_id,
                timeout=timeout,
            )
        )

    def process(
        self, event: Event, *, request_id: str | None = None, timeout: float | None = None
    ) -> Receipt:
        """The same for an event that may carry a value."""
        if request_id is not None:
            run = self._run
            return run.thread.run(run.client.process(event, request_id=request_id, timeout=timeout))
        check_function(event, "event")
        return self._count(
            event.video_id, event.event_type, event.event_time, event.value, event.actor_id, timeout
        )

    def submit(
        self,
        video_id: str,
        event_type: str = VIEW,
        *,
        event_time: datetime | None = None,
        value: float | None = None,
        actor_id: str = "",
    ) -> Future[Receipt]:
        """Submit one event without waiting; returns the future of its receipt, which cannot be cancelled.

        Waits only while the buffer is full; see tally.client.Client.
        """
        future = _Future()
        self._hand_in(self._run, video_id, event_type, event_time, value, actor_id, future)
        return future

    def submit_event(self, event: Event) -> Future[Receipt]:
        """The same for an Event."""
        check_function(event, "event")
        return self.submit(
            event.video_id,
            event.event_type,
            event_time=event.event_time,
            value=event.value,
            actor_id=event.actor_id,
        )

    def flush(self) -> None:
        """Wait until every event that was handed in before has its receipt; see tally.client.Client.

        Raises the first error, if an event of `submit` or `submit_event` has failed since the last flush that raised.
        """
        run = self._run
        run.thread.run(run.batcher.flush())

    @property
    def progress(self) -> Progress:
        """The progress of events that were submitted singly."""
        run = self._first.get("run")
        return NO_PROGRESS if run is None else run.batcher.progress

    def make_request_id(self) -> str:
        """A new request id, for a write that the caller may have to send again himself."""
        return self._unopened.make_request_id()

    def batch(self, events: Iterable[Event] | Columns, *, request_id: str | None = None) -> Batch:
        """Make a batch for `stream`: 1 to 50,000 events under one request id."""
        return self._unopened.batch(events, request_id=request_id)

    def close(self, *, timeout: float | None = None) -> None:
        """Take no new calls, wait for all that is under way as long as the timeout, and end the thread.

        Events that were handed in are sent. Those without an answer by then are given up: their futures fail, and
        so does this, with OutcomeUnknown or NotSent. If none is given up, it raises what a `flush` would.
        """
        run = self._first.setdefault("run", None)
        if run is None:
            return
        patience_s = self._timeout_s if timeout is None else timeout
        run.thread.end(partial(_close, run.batcher, run.client, patience_s))
        run.forget.detach()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except TallyError as lost:
            if error is None:
                raise
            error.add_note(
                f"Then the client was closed, and: {lost}"
            )  # what went wrong in the block comes first

    @property
    def _run(self) -> _Run:
        """Raises ClientUnusable where there can be none."""
        if "run" not in self._first:
            made = self._start()
            if self._first.setdefault("run", made) is not made:  # another thread, or a signal, was first
                made.forget()
        if (run := self._first["run"]) is None:
            raise ClientUnusable("the client is closed", reason="CLIENT_CLOSED")
        return run

    def _start(self) -> _Run:
        thread, opened = LoopThread(), self._make()
        try:
            batcher = thread.run(_open(opened, self._room))
        except BaseException:
            thread.end(opened.close)
            raise
        # A client that was not closed sends its events and ends its thread when it is garbage collected, or at exit.
        last = partial(_close, batcher, opened, self._timeout_s)
        return _Run(thread, opened, batcher, weakref.finalize(self, _end_quietly, thread, last))

    def _hand_in(
        self,
        run: _Run,
        video_id: str,
        event_type: str,
        event_time: datetime | None,
        value: float | None,
        actor_id: str,
        future: _Future | _Wait,
        awaited: Awaited | None = None,
        until: float | None = None,
    ) -> None:
        """Put one event into the buffer. `until`: monotonic seconds, after which the wait for room ends."""
        run.thread.check_process()
        if value is not None:
            check_value(value)
        time_us = None if event_time is None else read_event_time(event_time)
        while True:
            try:
                run.batcher.add(video_id, event_type, time_us, value, actor_id, future, awaited)
            except BufferFull:
                if not self._is_patient:
                    raise
            else:
                return
            run.thread.check_waiting()
            with self._room:
                wait_s = None if until is None else until - time.monotonic()
                if not self._room.wait_for(lambda: not run.batcher.is_full, wait_s):
                    raise TimeoutError

    def _count(
        self,
        video_id: str,
        event_type: str,
        event_time: datetime | None,
        value: float | None,
        actor_id: str,
        timeout: float | None,
    ) -> Receipt:
        run = self._run
        run.thread.check_process()
        run.thread.check_waiting()
        timeout_s = self._timeout_s if timeout is None else timeout
        until = time.monotonic() + timeout_s
        awaited = Awaited()
        future = _Wait()
        is_taken = False
        try:
            self._hand_in(run, video_id, event_type, event_time, value, actor_id, future, awaited, until)
            is_taken = True
            return future.wait(until - time.monotonic())
        except TimeoutError:
            awaited.is_waiting = False
            if future.done():  # in the last moment, when the loop still took this thread for one that waits
                return future.wait(0)
            raise still_sending(awaited.delivery if is_taken else None, timeout_s) from None
        finally:
            awaited.is_waiting = False


async def _open(opened: client.Client, room: threading.Condition) -> Batcher[_Future | _Wait]:
    await opened.__aenter__()
    loop = asyncio.get_running_loop()
    return await opened.open_batcher(loop.call_soon_threadsafe, partial(_tell, room))


def _tell(room: threading.Condition) -> None:
    with room:
        room.notify_all()


async def _close(batcher: Batcher[_Future | _Wait], opened: client.Client, patience_s: float) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + patience_s
    try:
        await batcher.close(patience_s)
    finally:
        await opened.close(timeout=max(0.0, until - loop.time()))


def _end_quietly(thread: LoopThread, make_last: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with suppress(TallyError):  # the future of each event has it, and the log
        thread.end(make_last)
