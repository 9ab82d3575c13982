"""What every method of every server has around it, in one layer.

It gives the call its deadline and its span, refuses what is too much at once, turns errors into statuses, answers a
request that does not parse with INVALID_ARGUMENT, and ends streams of requests in good order. So a servicer has no
try/except and no deadline arithmetic. Services of gRPC itself (health, reflection) are left as they are.
"""

import asyncio
import inspect
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import grpc
import structlog
from opentelemetry import trace

from libs.domain.errors import DeadlineExpired, Overloaded, TallyError, Unavailable, Unimplemented
from libs.rpc.deadline import has_passed, set_deadline
from libs.rpc.parsing import Malformed, parse_or_raise, parse_or_return
from libs.rpc.status import abort_details
from libs.rpc.stopping import Stopped, Stopping
from libs.rpc.tracing import ServerTracing

_LOGGER = structlog.get_logger(__name__)

_RETRY_AFTER_S = 1.0
_TOO_MANY = "too many calls at once; send the same request again later"
# Streams that began together, as after a restart, must not all come back together.
_YOUNGEST = 0.75

# gRPC's own types for handlers differ between its four kinds, so they are Any here.
Answer = Callable[[Any, Any], Awaitable[Any]]


class CallLayer:
    """The layer around the methods of one server.

    `unary_deadline_s` and `stream_deadline_s` are for calls that come without a deadline; a stream of requests is
    ended in good order at about `max_stream_age_s`; calls beyond `max_concurrent` at once are refused.
    """

    def __init__(
        self,
        *,
        unary_deadline_s: float,
        stream_deadline_s: float,
        max_stream_age_s: float,
        max_concurrent: int,
        stopping: Stopping,
        tracing: ServerTracing | None = None,
    ) -> None:
        self._unary_deadline_s = unary_deadline_s
        self._stream_deadline_s = stream_deadline_s
        self._max_stream_age_s = max_stream_age_s
        self._max_concurrent = max_concurrent
        self._concurrent = 0
        self._stopping = stopping
        self._tracing = tracing

    def in_front_of(self, server: grpc.aio.Server) -> Any:
        """What the generated code takes for the server: it registers there what it is given, with the layer around.

        An interceptor of gRPC's could do the same, and would cost each call a tenth of its time.
        """
        return _Registration(self._wrap, server)

    def _wrap(self, method: str, handler: Any) -> Any:
        behavior = (
            handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        )
        answer: Answer = behavior
        if handler.response_streaming:
            answer = _writing(behavior)
        if handler.request_streaming:
            answer = self._stoppable(answer)
        streaming = handler.request_streaming or handler.response_streaming
        answer = self._guarded(answer, self._stream_deadline_s if streaming else self._unary_deadline_s)
        if self._tracing is not None:
            answer = self._tracing.around(method, answer)
        parse = (parse_or_raise if handler.request_streaming else parse_or_return)(
            handler.request_deserializer
        )
        return _KINDS[handler.request_streaming, handler.response_streaming](
            answer, parse, handler.response_serializer
        )

    def _guarded(self, answer: Answer, default_deadline_s: float) -> Answer:
        """It has a deadline, is refused when there are too many, and ends in a response or a status."""

        async def answer_or_abort(request: Any, context: Any) -> Any:
            self._concurrent += 1
            try:
                if request.__class__ is Malformed:
                    raise request.error
                if self._concurrent > self._max_concurrent:
                    raise Overloaded(
                        "too many calls at once; send the same request again later",
                        retry_after_s=_RETRY_AFTER_S,
                        nothing_done=True,
                    )
                remaining = context.time_remaining()
                if remaining is None:
                    set_deadline(default_deadline_s)
                    async with asyncio.timeout(default_deadline_s):
                        return await answer(request, context)
                set_deadline(remaining)
                if remaining <= 0:
                    raise DeadlineExpired("the deadline had passed before the call was begun")
                return await answer(request, context)  # gRPC itself cancels it at the caller's deadline
            except grpc.aio.BaseError:
                raise  # the call is over: aborted by the handler, or the caller is gone
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the one place that catches all
                code, message, trailers = abort_details(_as_tally_error(error))
                await context.abort(code, message, trailers)
            finally:
                self._concurrent -= 1

        return answer_or_abort

    def _stoppable(self, answer: Answer) -> Answer:
        """Its stream of requests ends when the server stops, or at its age; then what was read is still answered."""

        async def answer_stream(requests: Any, context: Any) -> Any:
            age_s = random.uniform(_YOUNGEST, 1.0) * self._max_stream_age_s  # noqa: S311 - it is no secret
            stream = _Requests(requests, self._stopping, age_s)
            response = await answer(stream, context)
            if stream.stopped:
                why = (
                    "the server is stopping" if self._stopping.begun else "this stream has lasted long enough"
                )
                raise Unavailable(f"{why}; send what has no answer again, on another one")
            return response

        return answer_stream


class _Registration:
    """In the place of a server, while services are registered."""

    def __init__(self, wrap: Callable[[str, Any], Any], server: grpc.aio.Server) -> None:
        self._wrap = wrap
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        self._server.add_generic_rpc_handlers([_Layered(handler, self._wrap) for handler in handlers])

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Nothing: the generated code offers the same handlers by both ways."""


class _Layered(grpc.GenericRpcHandler):
    """Methods with the layer around them, each wrapped at its first call."""

    def __init__(self, handlers: grpc.GenericRpcHandler, wrap: Callable[[str, Any], Any]) -> None:
        self._handlers = handlers
        self._wrap = wrap
        self._wrapped: dict[str, Any] = {}

    def service(self, handler_call_details: Any) -> Any:
        method: str = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is None and (handler := self._handlers.service(handler_call_details)) is not None:
            wrapped = self._wrapped[method] = self._wrap(method, handler)
        return wrapped


class _Requests:
    """The requests of a stream until the client, or the server, has had enough."""

    def __init__(self, requests: Any, stopping: Stopping, age_s: float) -> None:
        self._next = aiter(requests).__anext__
        self._stopping = stopping
        self._until = asyncio.get_running_loop().time() + age_s
        self.stopped = False

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._stopping.unless_stopped(self._next(), self._until)
        except Stopped:
            self.stopped = True
            raise StopAsyncIteration from None


def _as_tally_error(error: BaseException) -> TallyError:
    """What the caller is told of an exception. Raises it again where gRPC has to see it."""
    if isinstance(error, TallyError):
        return error
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise error  # the caller is gone, or the grace is over: gRPC cancelled this task, and answers
        # Something that the handler awaited was cancelled. gRPC would take this for its own cancellation and
        # leave the caller without an answer until its deadline.
        return Unavailable("the server gave this call up, as it does when it stops; send the same again")
    if isinstance(error, TimeoutError) and has_passed():
        return DeadlineExpired("the deadline passed before the call was answered")
    if isinstance(error, NotImplementedError):
        return Unimplemented("this server does not answer this method")
    return _internal(error)


def _internal(error: BaseException) -> TallyError:
    """An error that keeps the exception's text from the caller, who gets an id to ask for it in the log."""
    error_id = uuid.uuid4().hex
    _LOGGER.error("unexpected exception", error_id=error_id, exc_info=error)
    trace.get_current_span().record_exception(error)
    return TallyError(
        f"internal error; the server's log has it as {error_id}", metadata={"error_id": error_id}
    )


def _writing(behavior: Callable[[Any, Any], Any]) -> Answer:
    """A handler with a stream of responses, generator or not, as a coroutine that writes them."""
    if not inspect.isasyncgenfunction(behavior):
        return behavior

    async def answer(request: Any, context: Any) -> None:
        async with aclosing(behavior(request, context)) as responses:
            async for response in responses:
                await context.write(response)

    return answer


_KINDS: dict[tuple[bool, bool], Callable[..., Any]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}
