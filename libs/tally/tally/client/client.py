"""The asynchronous client: one method for each thing that Tally does."""

# ruff: noqa: ASYNC109 - the service is told the deadline of a call, and asyncio.timeout would keep it here

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from contextlib import aclosing
from datetime import datetime
from types import TracebackType
from typing import Self

import grpc
from google.protobuf.wrappers_pb2 import StringValue

from tally.client import methods
from tally.client.answers import Audit, Count, Log, PartitionMap, Receipt, Refusal, Stats
from tally.client.columns import MAX_EVENTS, Batch, Columns
from tally.client.connection import Connection
from tally.client.errors import ClientUnusable, InvalidRequest, NotFound
from tally.client.events import VIEW, Event, Function
from tally.client.request_id import RequestIds
from tally.client.times import to_timestamp
from tally.common.v1 import common_pb2
from tally.ingest.v1 import ingest_pb2
from tally.query.v1 import query_pb2

DEFAULT_TIMEOUT_S = 5.0
AUDIT_TIMEOUT_S = 60.0
_HEALTH = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


class Client:
    """Counts events and reads counts, within one event loop.

        async with Client("127.0.0.1:50051") as client:
            await client.count("MBdVXkSdhwU")

    Times are aware datetimes. A `timeout` is in seconds and holds for the whole call, retries included.
    Every method raises TallyError (see tally.client.errors). Every write goes under a request id, made here
    unless the caller gives one: the same events sent again under the same id are counted once.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
        credentials: grpc.ChannelCredentials | None = None,
        request_ids: RequestIds | None = None,
    ) -> None:
        """`address`: host:port. `timeout`: of calls that name none. `credentials`: for TLS."""
        if address.startswith(("http://", "https://")):
            raise InvalidRequest.of("address", f"{address!r} should be host:port alone, without http")
        self.address = address
        self._timeout_s = timeout
        self._credentials = credentials
        self._request_ids = request_ids or RequestIds()
        self._connection: Connection | None = None

    async def __aenter__(self) -> Self:
        self._connection = Connection(self.address, self._timeout_s, self._credentials)
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Take no new calls, and wait for those under way as long as the default timeout."""
        if self._connection:
            await self._connection.close()

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
        """Count one event. `event_time`: None means when it is received."""
        request = ingest_pb2.CountEventRequest(
            video_id=video_id,
            event_type=event_type,
            request_id=request_id or self._request_ids.make(),
            event_time=to_timestamp(event_time, "event_time"),
            actor_id=actor_id,
        )
        answer = await self._open.call(methods.COUNT_EVENT, request, timeout, request_id=request.request_id)
        return Receipt.from_message(answer.receipt)

    async def process(
        self, event: Event, *, request_id: str | None = None, timeout: float | None = None
    ) -> Receipt:
        """Count one event that may carry a value."""
        request = ingest_pb2.ProcessEventRequest(
            event=event.to_message(), request_id=request_id or self._request_ids.make()
        )
        answer = await self._open.call(methods.PROCESS_EVENT, request, timeout, request_id=request.request_id)
        return Receipt.from_message(answer.receipt)

    async def process_many(
        self,
        events: Iterable[Event] | Columns,
        *,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Receipt:
        """Count 1 to 50,000 events in one request of at most 8 MiB: all of them or none."""
        request = self.batch(events, request_id=request_id).to_message()
        answer = await self._open.call(
            methods.PROCESS_EVENTS, request, timeout, request_id=request.request_id
        )
        return Receipt.from_message(answer.receipt)

    def batch(self, events: Iterable[Event] | Columns, *, request_id: str | None = None) -> Batch:
        """Make a batch for `stream`: 1 to 50,000 events under one request id."""
        columns = events if isinstance(events, Columns) else Columns.of(events)
        if not 1 <= len(columns) <= MAX_EVENTS:
            raise InvalidRequest.of(
                "events", f"a request has 1 to {MAX_EVENTS:,} events, not {len(columns):,}"
            )
        return Batch(request_id or self._request_ids.make(), columns)

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

    async def get_views_count(
        self,
        video_id: str,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        strong: bool = False,
        timeout: float | None = None,
    ) -> Count:
        """The views of a video in [start, end), taken down to whole minutes; see `get_count`."""
        request = query_pb2.GetViewsCountRequest(
            video_id=video_id,
            start_time=to_timestamp(start, "start"),
            end_time=to_timestamp(end, "end"),
            consistency=_consistency(strong),
        )
        answer = await self._open.call(methods.GET_VIEWS_COUNT, request, timeout)
        return Count.from_message(answer)

    async def get_count(
        self,
        video_id: str,
        event_type: str = VIEW,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        strong: bool = False,
        timeout: float | None = None,
    ) -> Count:
        """The events of one type of a video in [start, end), taken down to whole minutes.

        A bound left out is unbounded. `strong`: with every event that was journaled before the call;
        otherwise the answer may lag by a flush, and `as_of` says how far it reaches. A video never seen
        counts 0.
        """
        request = query_pb2.GetCountRequest(
            video_id=video_id,
            event_type=event_type,
            start_time=to_timestamp(start, "start"),
            end_time=to_timestamp(end, "end"),
            consistency=_consistency(strong),
        )
        answer = await self._open.call(methods.GET_COUNT, request, timeout)
        return Count.from_message(answer)

    async def get_stats(
        self,
        video_id: str,
        event_type: str,
        function: Function | str,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        strong: bool = False,
        quantile: float | None = None,
        timeout: float | None = None,
    ) -> Stats:
        """One aggregate, for example `"average"`, over the events of one type of a video; see `get_count`.

        `quantile`: from 0 to 1, with the function `quantile` only.
        """
        request = query_pb2.GetStatsRequest(
            video_id=video_id,
            event_type=event_type,
            function=Function.of(function).proto_name,
            start_time=to_timestamp(start, "start"),
            end_time=to_timestamp(end, "end"),
            consistency=_consistency(strong),
            quantile=quantile,
        )
        answer = await self._open.call(methods.GET_STATS, request, timeout)
        return Stats.from_message(answer)

    # Operating

    async def partition_map(self, *, timeout: float | None = None) -> PartitionMap:
        """Which shard leads which partitions, as the partitioner that answers sees it."""
        answer = await self._open.call(
            methods.GET_PARTITION_MAP,
            ingest_pb2.GetPartitionMapRequest(),
            timeout,
        )
        return PartitionMap.from_message(answer)

    async def list_logs(self, *, timeout: float | None = None) -> tuple[Log, ...]:
        """The logs that are not settled, oldest first."""
        answer = await self._open.call(methods.LIST_LOGS, query_pb2.ListLogsRequest(), timeout)
        return tuple(Log.from_message(log) for log in answer.logs)

    async def audit(self, *, timeout: float = AUDIT_TIMEOUT_S) -> Audit:
        """Compare the rollups with the journal. Reads every rollup, hence the longer timeout."""
        answer = await self._open.call(methods.AUDIT, query_pb2.AuditRequest(), timeout)
        return Audit.from_message(answer)

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
            raise ClientUnusable(
                "the client is not open: use it within `async with Client(address) as client:`",
                reason="CLIENT_NOT_OPEN",
            )
        return self._connection


async def _each(batches: AsyncIterable[Batch] | Iterable[Batch]) -> AsyncIterator[Batch]:
    if isinstance(batches, AsyncIterable):
        async for batch in batches:
            yield batch
    else:
        for batch in batches:
            yield batch


def _consistency(strong: bool) -> common_pb2.Consistency:
    return common_pb2.CONSISTENCY_STRONG if strong else common_pb2.CONSISTENCY_CACHED
