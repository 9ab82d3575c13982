"""The asynchronous client: one method for each thing that Tally does."""

# ruff: noqa: ASYNC109 - the service is told the deadline of a call, and asyncio.timeout would keep it here

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable
from contextlib import aclosing
from datetime import datetime
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

import grpc
from google.protobuf.wrappers_pb2 import StringValue

from tally.client._buffering.batcher import Batcher
from tally.client._buffering.buffer import Awaited
from tally.client._buffering.ends import F, Progress
from tally.client._calls import methods
from tally.client._calls.access import Access
from tally.client._calls.connection import Connection
from tally.client._calls.methods import Answer, Method, Request
from tally.client._calls.namespace import N
from tally.client._calls.tracing import Tracer, Tracing
from tally.client._checks.rules import (
    check_actor_id,
    check_event_type,
    check_value,
    check_video_id,
    read_event_time,
)
from tally.client._checks.times import to_timestamp
from tally.client._checks.wrong_type import refuse_wrong_types
from tally.client._delivery.sending import Delivery, Limits, Sender, still_sending
from tally.client._delivery.transport import TransportName, open_transport
from tally.client._surface.namespaces import Namespaces
from tally.client.answers import PartitionMap, Receipt, Refusal
from tally.client.batching import Batching
from tally.client.columns import Batch, Columns, columns_of
from tally.client.counting import Counting
from tally.client.errors import ClientUnusable
from tally.client.events import Event, check_function
from tally.client.query import Query
from tally.client.request_id import RequestIds
from tally.client.tls import Tls
from tally.contract.errors import InvalidRequest, NotFound, OutOfRange, TallyError
from tally.contract.rules import VIEW
from tally.ingest.v1 import ingest_pb2

DEFAULT_TIMEOUT_S = 5.0
MAX_ATTEMPTS = 4
"""Maximum attempts of a request whose caller waits."""
_HEALTH = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}

P = ParamSpec("P")
T = TypeVar("T")


def _of(
    part: str, method: Callable[Concatenate[N, P], Coroutine[Any, Any, T]]
) -> "Callable[Concatenate[Client, P], Coroutine[Any, Any, T]]":
    """A method of a namespace, on the client itself."""

    @wraps(method)
    async def call(self: "Client", *args: P.args, **kwargs: P.kwargs) -> T:
        return await method(getattr(self, part), *args, **kwargs)

    # Without the cast, mypy keeps the name of the first parameter, and a method is no plain callable.
    return cast("Callable[Concatenate[Client, P], Coroutine[Any, Any, T]]", call)


class Client(Namespaces):
    """Counts events and reads counts, within one event loop.

        async with Client("127.0.0.1:50051") as client:
            await client.count("MBdVXkSdhwU")

    Events that are handed in one by one (`count`, `process`, `submit`, `submit_event`) go into a buffer, and leave
    it in batches in the background; see Batching. `count` and `process` wait for the receipt, `submit` and
    `submit_event` return its future. A batch is sent again, the same bytes under the same request id, until it has
    an answer; a caller who waits no longer, or is cancelled, changes nothing about that.

    Times are aware datetimes. A `timeout` is in seconds and holds for the whole call, retries included.
    Every method raises TallyError (see tally.client.errors).
    """

    def __init__(
        self,
        address: str,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
        batching: Batching | None = None,
        transport: TransportName = "unary",
        credentials: grpc.ChannelCredentials | None = None,
        tls: Tls | None = None,
        token: str | None = None,
        request_ids: RequestIds | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        """`address`: host:port. `timeout`: of calls that name none.

        `tls`: for a service with TLS; `credentials` are gRPC's own instead, for what Tls has no fields for. `token`: by
        which the service knows the caller; without TLS it is sent to this machine alone.

        `tracer`: OpenTelemetry's, for a span around each batch and each attempt of a call, whose trace context goes
        to the service. Batches on a stream or in direct mode carry none.

        `transport`: how batches go: `unary`, a call for each; `stream`, all on one call; or `direct`, cut here and
        sent to the shards themselves, which needs the extra `direct` of this package.
        """
        if address.startswith(("http://", "https://")):
            raise InvalidRequest.of("address", f"{address!r} should be host:port alone, without http")
        self.address = address
        self._timeout_s = timeout
        self._access = Access.of(address, credentials, tls, token)
        self._request_ids = request_ids or RequestIds()
        self._batching = batching or Batching()
        self._transport_name: TransportName = transport
        self._tracing = Tracing(tracer)
        self._connection: Connection | None = None
        self._is_closed = False

    async def __aenter__(self) -> Self:
        connection = Connection(self.address, self._timeout_s, self._access, self._tracing)
        try:
            self._transport = open_transport(self._transport_name, connection)
            self._sender = Sender(self._transport, self._request_ids, self._tracing)
            loop = asyncio.get_running_loop()
            self._batcher: Batcher[asyncio.Future[Receipt]] = await self.open_batcher(loop.call_soon)
        except BaseException:
            await connection.close(0.0)
            raise
        self._connection = connection
        return self

    async def open_batcher(
        self,
        call_soon: Callable[[Callable[[], None]], object],
        on_room: Callable[[], None] = lambda: None,
    ) -> Batcher[F]:
        """Another buffer in front of this client, for callers outside of its event loop; see Batcher."""
        batcher: Batcher[F] = Batcher(self._sender, self._batching, call_soon, on_room)
        await batcher.guard()
        return batcher

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self.close()
        except TallyError as lost:
            if error is None:
                raise
            error.add_note(
                f"Then the client was closed, and: {lost}"
            )  # what went wrong in the block comes first

    async def close(self, *, timeout: float | None = None) -> None:
        """Take no new calls, wait for all that is under way as long as the timeout, and let go.

        Events that were handed in are sent. Those without an answer by then are given up: their futures fail, and
        so does this, with OutcomeUnknown or NotSent. If none is given up, it raises what a `flush` would.
        """
        if self._connection is None or self._is_closed:
            return
        self._is_closed = True
        loop = asyncio.get_running_loop()
        patience_s = self._timeout_s if timeout is None else timeout
        until = loop.time() + patience_s
        try:
            await self._batcher.close(patience_s)
        finally:
            self._sender.close()
            await self._transport.close(max(0.0, until - loop.time()))
            await self._connection.close(max(0.0, until - loop.time()))

    # Counting

    async def count(
        self,
        video_id: str,
        event_type: str = VIEW,
        *,
        event_time: datetime | None = None,
        actor_id: str = "",
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Receipt:
        """Count one event, and wait for the receipt of the request in which it went, others' events included.

        `event_time`: None means when it is received. After `timeout` the caller waits no longer: StillSending,
        and the event is sent on. With a `request_id` it goes at once, as a request of its own.
        """
        if request_id is None:
            return await self._count(video_id, event_type, event_time, None, actor_id, timeout)
        with refuse_wrong_types("request"):
            request = ingest_pb2.CountEventRequest(
                video_id=video_id,
                event_type=event_type,
                request_id=request_id,
                event_time=to_timestamp(event_time, "event_time"),
                actor_id=actor_id,
            )
        answer = await self._call_alone(methods.COUNT_EVENT, request, timeout, request_id)
        return Receipt.from_message(answer.receipt).of_request(request_id, 1)

    async def process(
        self, event: Event, *, request_id: str | None = None, timeout: float | None = None
    ) -> Receipt:
        """The same for an event that may carry a value."""
        if request_id is None:
            check_function(event, "event")
            return await self._count(
                event.video_id, event.event_type, event.event_time, event.value, event.actor_id, timeout
            )
        with refuse_wrong_types("request"):
            request = ingest_pb2.ProcessEventRequest(event=event.to_message(), request_id=request_id)
        answer = await self._call_alone(methods.PROCESS_EVENT, request, timeout, request_id)
        return Receipt.from_message(answer.receipt).of_request(request_id, 1)

    async def submit(
        self,
        video_id: str,
        event_type: str = VIEW,
        *,
        event_time: datetime | None = None,
        value: float | None = None,
        actor_id: str = "",
    ) -> "asyncio.Future[Receipt]":
        """Submit one event without waiting: returns the future of its receipt once the event is in the buffer.

        Unread futures are allowed; `flush` and `close` raise the errors.
        """
        batcher = self._buffering
        if value is not None:
            check_value(value)
        time_us = None if event_time is None else read_event_time(event_time)
        if batcher.is_full:
            await self._wait_for_room(batcher, video_id, event_type, actor_id)
        future: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        batcher.add(video_id, event_type, time_us, value, actor_id, future)
        if batcher.has_much:
            await asyncio.sleep(0)  # a caller in a loop of its own would keep full batches from leaving
        return future

    async def submit_event(self, event: Event) -> "asyncio.Future[Receipt]":
        """The same for an Event."""
        check_function(event, "event")
        return await self.submit(
            event.video_id,
            event.event_type,
            event_time=event.event_time,
            value=event.value,
            actor_id=event.actor_id,
        )

    async def flush(self) -> None:
        """Wait until every event that was handed in before has its receipt.

        Raises the first error, if an event of `submit` or `submit_event` has failed since the last flush that raised,
        be it long ago, and whether or not somebody looked at its future; a note says how many have. `count` and
        `process` tell their callers themselves; of those who have gone before the end, this tells. There is no end in
        time to it but `give_up_after_s`.
        """
        await self._buffering.flush()

    @property
    def progress(self) -> Progress:
        """The progress of events that were submitted singly; also after the end."""
        if self._connection is None:
            raise _not_open()
        return self._batcher.progress

    def make_request_id(self) -> str:
        """A new request id, by the service's time, for a write that the caller may have to send again himself."""
        return self._request_ids.make()

    async def process_many(
        self,
        events: Iterable[Event] | Columns,
        *,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Receipt:
        """Count 1 to 50,000 events in one request of at most 8 MiB, at once: all of them or none."""
        self._open.check_usable()
        columns = columns_of(events)
        timeout_s = self._timeout_s if timeout is None else timeout
        limits = Limits(timeout_s, timeout_s, MAX_ATTEMPTS)
        return await self._sender.send(columns, limits, Delivery(), request_id=request_id)

    def batch(self, events: Iterable[Event] | Columns, *, request_id: str | None = None) -> Batch:
        """Make a batch for `stream`: 1 to 50,000 events under one request id."""
        return Batch(request_id or self._request_ids.make(), columns_of(events))

    async def stream(
        self, batches: AsyncIterable[Batch] | Iterable[Batch], *, timeout: float | None = None
    ) -> AsyncGenerator[Receipt | Refusal, None]:
        """Send batches on one stream and yield what became of each, in the order of the answers.

        A refused batch does not end the stream. `timeout` is for the whole stream; None sets no end to it.
        When the stream breaks, OutcomeUnknown names the batches without an answer; to be sure, send those
        again as they are.
        """
        pending: dict[str, None] = {}

        async def requests() -> AsyncIterator[ingest_pb2.StreamEventsRequest]:
            async for batch in _each(batches):
                pending[batch.request_id] = None
                yield ingest_pb2.StreamEventsRequest(batch=batch.to_message())

        answers = self._open.stream(methods.STREAM_EVENTS, requests(), timeout, pending=pending)
        async with aclosing(answers):
            async for answer in answers:
                outcome = (
                    Refusal.from_message(answer.refusal)
                    if answer.HasField("refusal")
                    else Receipt.from_message(answer.receipt)
                )
                pending.pop(outcome.request_id, None)
                yield outcome

    # Reading

    get_views_count = _of("query", Query.get_views_count)
    get_count = _of("query", Query.get_count)
    get_stats = _of("query", Query.get_stats)
    list_logs = _of("query", Query.list_logs)
    list_grains = _of("query", Query.list_grains)
    audit = _of("query", Query.audit)

    # Of a shard, at its own address

    get_cluster = _of("counting", Counting.get_cluster)
    list_dead_letters = _of("counting", Counting.list_dead_letters)
    get_dead_letter = _of("counting", Counting.get_dead_letter)
    replay_dead_letter = _of("counting", Counting.replay_dead_letter)
    drop_dead_letter = _of("counting", Counting.drop_dead_letter)

    # Of the server

    async def partition_map(self, *, timeout: float | None = None) -> PartitionMap:
        """Which shard leads which partitions, as the partitioner that answers sees it."""
        answer = await self._open.call(
            methods.GET_PARTITION_MAP,
            ingest_pb2.GetPartitionMapRequest(),
            timeout,
        )
        return PartitionMap.from_message(answer)

    async def health(self, service: str = "", *, timeout: float | None = None) -> str:
        """SERVING, NOT_SERVING, UNKNOWN, or SERVICE_UNKNOWN; of the whole server if no service is named."""
        try:
            answer = await self._open.call(methods.CHECK_HEALTH, StringValue(value=service), timeout)
        except NotFound:
            return "SERVICE_UNKNOWN"
        return _HEALTH.get(answer.value, "UNKNOWN")

    @property
    def _open(self) -> Connection:
        if self._connection is None:
            raise _not_open()
        if self._is_closed:
            raise ClientUnusable("the client is closed", reason="CLIENT_CLOSED")
        return self._connection

    async def _call_alone(
        self, method: Method[Request, Answer], request: Request, timeout: float | None, request_id: str
    ) -> Answer:
        """Send a request whose id the caller made, and learn from it for the next id if it was out of range."""
        try:
            return await self._open.call(method, request, timeout, request_id=request_id)
        except OutOfRange as error:
            if error.server_time_us is not None:
                self._request_ids.learn(error.server_time_us)
            raise

    @property
    def _buffering(self) -> "Batcher[asyncio.Future[Receipt]]":
        """The buffer, for a caller who may use it."""
        self._open.check_usable()
        return self._batcher

    async def _wait_for_room(
        self, batcher: "Batcher[asyncio.Future[Receipt]]", video_id: str, event_type: str, actor_id: str
    ) -> None:
        """Return when there may be room for this event. Raises InvalidRequest: who is let in has to take the room, or
        nobody tells the next of it."""
        check_video_id(video_id)
        check_event_type(event_type)
        check_actor_id(actor_id)
        while batcher.is_full and self._batching.when_full == "wait":
            await batcher.wait_for_room()

    async def _count(
        self,
        video_id: str,
        event_type: str,
        event_time: datetime | None,
        value: float | None,
        actor_id: str,
        timeout: float | None,
    ) -> Receipt:
        batcher = self._buffering
        if value is not None:
            check_value(value)
        time_us = None if event_time is None else read_event_time(event_time)
        timeout_s = self._timeout_s if timeout is None else timeout
        awaited = Awaited()
        future: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        is_taken = False
        try:
            async with asyncio.timeout(timeout_s):
                if batcher.is_full:
                    await self._wait_for_room(batcher, video_id, event_type, actor_id)
                batcher.add(video_id, event_type, time_us, value, actor_id, future, awaited)
                is_taken = True
                return await future
        except TimeoutError:
            raise still_sending(awaited.delivery if is_taken else None, timeout_s) from None
        finally:
            awaited.is_waiting = False


def _not_open() -> ClientUnusable:
    """The error of a client that was not opened."""
    return ClientUnusable(
        "the client is not open: use it within `async with Client(address) as client:`",
        reason="CLIENT_NOT_OPEN",
    )


async def _each(batches: AsyncIterable[Batch] | Iterable[Batch]) -> AsyncIterator[Batch]:
    if isinstance(batches, AsyncIterable):
        async for batch in batches:
            yield batch
    else:
        for batch in batches:
            yield batch
