"""One channel to the service, and a call over it: deadline, retries, errors.

A request is serialized once, so that every attempt sends the same bytes.
"""

import asyncio
import json
import os
from collections.abc import AsyncGenerator, AsyncIterable, Sequence

import grpc

from tally.client._calls.access import Access, is_loopback
from tally.client._calls.backoffs import OF_GRPC
from tally.client._calls.methods import Answer, Method, Request
from tally.client._calls.process import FORK_GUARD
from tally.client._calls.status import to_error
from tally.client._calls.tracing import NO_TRACING, Tracing
from tally.client.errors import ClientUnusable, OutcomeUnknown
from tally.contract.backoff import spread_s
from tally.contract.errors import InvalidRequest, Overloaded
from tally.contract.rules import MAX_REQUEST_BYTES

# gRPC itself retries calls without an answer, but not batches: the sender must know of every attempt
# that went without an answer, because after one it may not make a new id. What gRPC still repeats of those (gRFC A6,
# "transparent retries") never reached the service's code. There is no timeout in it: the caller's deadline is exact,
# and one from the service config comes a second or two off in Python.
_INGEST = "tally.ingest.v1.IngestService"
_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [
                {"service": _INGEST, "method": "ProcessEvents"},
                {"service": _INGEST, "method": "StreamEvents"},
                {"service": "tally.counting.v1.CountingService", "method": "Append"},
            ]
        },
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 4,
                **OF_GRPC,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        },
    ],
    "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
}
_OPTIONS: tuple[tuple[str, str | int], ...] = (
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    # A larger request is not kept for a retry, and the default is 256 KiB.
    ("grpc.per_rpc_retry_buffer_size", MAX_REQUEST_BYTES + 64 * 1024),
    # A service that comes back is found by the retries, and not a second later.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)


class Connection:
    """A channel that belongs to one event loop of one process."""

    def __init__(self, address: str, timeout_s: float, access: Access, tracing: Tracing = NO_TRACING) -> None:
        """To be called in the event loop. gRPC starts with the first call, so that a fork before that does no harm.

        `timeout_s`: of calls that name none. Raises ClientUnusable where gRPC cannot work.
        """
        FORK_GUARD.check()
        access.check(address)
        self.address = address
        """host:port"""
        self._timeout_s = timeout_s
        self._access = access
        self._tracing = tracing
        self._process = os.getpid()
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        self._opened: grpc.aio.Channel | None = None

    @property
    def _channel(self) -> grpc.aio.Channel:
        if self._opened is None:
            with FORK_GUARD.opening:
                self._opened = self._open()
                FORK_GUARD.add(self._opened)
        return self._opened

    def _open(self) -> grpc.aio.Channel:
        # A proxy set for the way out (http_proxy) leads away from this machine's own services.
        options = (*_OPTIONS, *self._access.options)
        if is_loopback(self.address):
            options = (*options, ("grpc.enable_http_proxy", 0))
        if self._access.credentials is None or self.address.startswith("unix:"):
            return grpc.aio.insecure_channel(self.address, options=options)
        return grpc.aio.secure_channel(self.address, self._access.credentials, options=options)

    def to(self, address: str) -> "Connection":
        """Another connection, set up like this one."""
        return Connection(address, self._timeout_s, self._access, self._tracing)

    async def close(self, grace_s: float) -> None:
        """Wait for the calls under way, then end them. With the last channel of a process gRPC's threads end."""
        self._closing.set()
        opened, self._opened = self._opened, None
        if opened is not None:
            try:
                await opened.close(grace_s)
            finally:
                FORK_GUARD.remove(opened)

    async def call(
        self,
        method: Method[Request, Answer],
        request: Request,
        timeout_s: float | None,
        *,
        request_id: str | None = None,
    ) -> Answer:
        """Send one request and return its answer, or raise a TallyError.

        `timeout_s`: for everything, retries and waits included; None is the default. `request_id`: that of a
        write.
        """
        payload = request.SerializeToString()
        if len(payload) > MAX_REQUEST_BYTES:
            raise InvalidRequest.of(
                "request", f"{len(payload):,} bytes are more than the {MAX_REQUEST_BYTES:,} that one may have"
            )
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            try:
                return await self.attempt(method, payload, deadline - loop.time(), request_id=request_id)
            except Overloaded as error:
                if error.retry_after_s is None:
                    raise
                wait_s = spread_s(error.retry_after_s)
                if loop.time() + wait_s >= deadline or await self._closes_within(wait_s):
                    raise

    async def attempt(
        self,
        method: Method[Request, Answer],
        payload: bytes,
        timeout_s: float,
        *,
        request_id: str | None = None,
    ) -> Answer:
        """Send the bytes of a request once; the service config has gRPC's own retries."""
        self.check_usable()
        request_ids = (request_id,) if request_id else ()
        try:
            # In no variable, for the traceback of an error that is kept would keep the channel, and gRPC running.
            with self._tracing.attempt(method.path) as traced:
                metadata = (*(self._access.metadata or ()), *traced)
                return await self._calls(method)(payload, timeout=timeout_s, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise to_error(error, self.address, timeout_s, request_ids) from error.with_traceback(None)
        except asyncio.CancelledError:
            self._raise_if_closed(request_ids)
            raise

    def open_stream(
        self, method: Method[Request, Answer], timeout_s: float | None = None
    ) -> "grpc.aio.StreamStreamCall[bytes, Answer]":
        """Begin a stream; its requests are written as bytes."""
        self.check_usable()
        calls: grpc.aio.StreamStreamMultiCallable[bytes, Answer] = self._channel.stream_stream(
            method.path, response_deserializer=method.parse
        )
        return calls(timeout=timeout_s, metadata=self._access.metadata)

    async def stream(
        self,
        method: Method[Request, Answer],
        requests: AsyncIterable[Request],
        timeout_s: float | None,
        *,
        pending: dict[str, None],
    ) -> AsyncGenerator[Answer, None]:
        """Send requests and yield answers as they come, until both sides are through.

        `timeout_s`: for the whole stream; None sets no end to it. `pending`: the ids of the requests that were
        sent and not answered, kept by the caller; the error names them when the stream breaks. What `requests`
        raises is raised here.
        """
        call = self.open_stream(method, timeout_s)
        writer = asyncio.create_task(_write_all(call, requests))
        try:
            async for answer in call:
                yield answer
            await writer
        except grpc.aio.AioRpcError as error:
            raise to_error(error, self.address, timeout_s, tuple(pending)) from error.with_traceback(None)
        except asyncio.CancelledError:
            if writer.done() and not writer.cancelled():
                writer.result()
            self._raise_if_closed(tuple(pending))
            raise
        finally:
            call.cancel()
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            del call  # as in `attempt`
        if pending:
            raise OutcomeUnknown(
                f"{self.address} ended the stream before it had answered every batch",
                reason="STREAM_ENDED",
                request_ids=tuple(pending),
            )

    def _calls(self, method: Method[Request, Answer]) -> "grpc.aio.UnaryUnaryMultiCallable[bytes, Answer]":
        return self._channel.unary_unary(method.path, response_deserializer=method.parse)

    async def _closes_within(self, wait_s: float) -> bool:
        """Wait, unless the client is closed meanwhile."""
        try:
            await asyncio.wait_for(self._closing.wait(), wait_s)
        except TimeoutError:
            return False
        return True

    def check_usable(self) -> None:
        """Raise ClientUnusable where this client cannot be used, or not any more."""
        if self._closing.is_set():
            raise ClientUnusable("the client is closed", reason="CLIENT_CLOSED")
        if os.getpid() != self._process or asyncio.get_running_loop() is not self._loop:
            raise ClientUnusable(
                "the client was opened in another event loop or process. Open one for each, "
                "or use tally.client.blocking.Client, which any thread may call",
                reason="CLIENT_ELSEWHERE",
            )

    def _raise_if_closed(self, request_ids: Sequence[str]) -> None:
        """Tell a call that ended with its client from one that its own task gave up."""
        task = asyncio.current_task()
        if not self._closing.is_set() or (task and task.cancelling()):
            return
        if request_ids:
            raise OutcomeUnknown(
                "the client was closed before the answer came",
                reason="CLIENT_CLOSED",
                request_ids=request_ids,
            )
        raise ClientUnusable("the client was closed during the call", reason="CLIENT_CLOSED")


async def _write_all(
    call: grpc.aio.StreamStreamCall[bytes, Answer], requests: AsyncIterable[Request]
) -> None:
    """Write until `requests` ends or the call does; what `requests` raises ends the call."""
    try:
        async for request in requests:
            payload = request.SerializeToString()
            try:
                await call.write(payload)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                return  # the reader is told why
        await call.done_writing()
    except BaseException:
        call.cancel()
        raise
