"""The rpcs of one user, over a connection of his own, each attempt reported to locust."""

import random
import time
from collections.abc import Callable
from typing import Any

import gevent
import grpc

from tally.common.v1.common_pb2 import CONSISTENCY_CACHED, CONSISTENCY_STRONG
from tally.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from tally.query.v1 import query_pb2, query_pb2_grpc

VIEW = "view"
ATTEMPTS = 4
ATTEMPT_SECONDS = 5.0
_BACKOFF_SECONDS = 0.2
# With any other status the same request meets the same end.
_RETRIED = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)
_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),  # or all users of the process share one connection
    ("grpc.enable_retries", 0),  # they are made here, so that each attempt is seen
    ("grpc.enable_http_proxy", 0),
)

WriteRequest = (
    ingest_pb2.CountViewEventRequest | ingest_pb2.CountEventRequest | ingest_pb2.ProcessEventsRequest
)
Report = Callable[..., None]
"""Locust's `events.request.fire`."""


class Calls:
    """Blocking calls of one greenlet, each of which raises grpc.RpcError when its last attempt failed."""

    def __init__(self, address: str, report: Report) -> None:
        self.channel = grpc.insecure_channel(address, options=_OPTIONS)
        self._report = report

    def close(self) -> None:
        self.channel.close()

    def call(self, name: str, send: Any, request: Any) -> Any:
        """What `send` answers. Raises grpc.RpcError."""
        for attempt in range(1, ATTEMPTS):
            try:
                return self._attempt(name, send, request)
            except grpc.RpcError as error:
                if error.code() not in _RETRIED:
                    raise
            gevent.sleep(random.uniform(0.5, 1.0) * _BACKOFF_SECONDS * 2**attempt)
        return self._attempt(name, send, request)

    def _attempt(self, name: str, send: Any, request: Any) -> Any:
        started = time.perf_counter()
        try:
            answer = send(request, timeout=ATTEMPT_SECONDS)
        except grpc.RpcError as error:
            self._tell(name, started, exception=error)
            raise
        self._tell(name, started, response=answer, response_length=answer.ByteSize())
        return answer

    def _tell(self, name: str, started: float, **outcome: Any) -> None:
        milliseconds = (time.perf_counter() - started) * 1000
        nothing: dict[str, Any] = {"response": None, "response_length": 0, "exception": None, "context": {}}
        self._report(request_type="grpc", name=name, response_time=milliseconds, **(nothing | outcome))


class Rpcs(Calls):
    """Writes and reads of counts."""

    def __init__(self, address: str, report: Report) -> None:
        super().__init__(address, report)
        self._ingest = ingest_pb2_grpc.IngestServiceStub(self.channel)
        self._query = query_pb2_grpc.QueryServiceStub(self.channel)

    def write(self, request: WriteRequest) -> ingest_pb2.Receipt:
        """Send a request to the rpc that it is named for. Every attempt goes under the same id."""
        name = type(request).__name__.removesuffix("Request")
        receipt: ingest_pb2.Receipt = self.call(name, getattr(self._ingest, name), request).receipt
        return receipt

    def read(self, video_id: str, event_type: str, *, strong: bool) -> int:
        """The all-time count: GetViewsCount for views, GetCount for the rest."""
        consistency = CONSISTENCY_STRONG if strong else CONSISTENCY_CACHED
        if event_type == VIEW:
            views = query_pb2.GetViewsCountRequest(video_id=video_id, consistency=consistency)
            return int(self.call("GetViewsCount", self._query.GetViewsCount, views).count)
        events = query_pb2.GetCountRequest(video_id=video_id, event_type=event_type, consistency=consistency)
        return int(self.call("GetCount", self._query.GetCount, events).count)
