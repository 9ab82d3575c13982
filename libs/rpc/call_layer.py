"""The layer around every method of every server.

It gives the call its deadline and its span, refuses callers who may not make it and what is too much at once, turns
errors into statuses, answers a request that does not parse with INVALID_ARGUMENT, and ends streams of requests in good
order. So a servicer has no try/except and no deadline arithmetic. Services of gRPC itself (health, reflection) are left
as they are, but for the check of who calls.

Towards gRPC every method takes a stream of raw bytes, also one with a single request: gRPC would read and parse that
before its handler begins, and then nothing could bound what is received, or look at it before it is parsed.
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

from libs.rpc.admission import Admission
from libs.rpc.deadline import has_passed, set_deadline
from libs.rpc.intake import Intake
from libs.rpc.look import look_for
from libs.rpc.parsing import Parse, make_parse
from libs.rpc.security.access import Access, Gate
from libs.rpc.stopping import Stopped, Stopping
from libs.rpc.tracebacks import drop_tracebacks
from libs.rpc.tracing import ServerTracing
from tally.contract.errors import (
    DeadlineExceeded,
    Overloaded,
    ServerFault,
    TallyError,
    Unavailable,
    Unimplemented,
)
from tally.contract.status import abort_details

_LOGGER = structlog.get_logger(__name__)

_RETRY_AFTER_S = 1.0
# Streams that began together, as after a restart, must not all come back together.
_YOUNGEST = 0.75

# gRPC's own types for handlers differ between its four kinds, so they are Any here.
Answer = Callable[[Any, Any], Awaitable[Any]]


class CallLayer:
    """The layer around the methods of one server.

    `unary_deadline_s` and `stream_deadline_s` are for calls that come without a deadline; a stream of requests is
    ended in good order at about `max_stream_age_s`; calls beyond `max_concurrent` at once are refused, and so are
    streams of requests beyond `max_streams`. Single requests are received by `intake`. `access` says who may call what;
    None: everybody everything.
    """

    def __init__(
        self,
        *,
        unary_deadline_s: float,
        stream_deadline_s: float,
        max_stream_age_s: float,
        max_concurrent: int,
        max_streams: int,
        intake: Intake,
        stopping: Stopping,
        tracing: ServerTracing | None = None,
        access: Access | None = None,
    ) -> None:
        self._unary_deadline_s = unary_deadline_s
        self._stream_deadline_s = stream_deadline_s
        self._max_stream_age_s = max_stream_age_s
        self._max_concurrent = max_concurrent
        self._max_streams = max_streams
        self._intake = intake
        self._concurrent = 0
        self._streams = 0
        self._stopping = stopping
        self._tracing = tracing
        self._access = access

    @property
    def saturation(self) -> Mapping[str, float]:
        """The used part of the bounds of calls and of streams."""
        return {
            "calls": self._concurrent / self._max_concurrent,
            "streams": self._streams / self._max_streams,
        }

    def in_front_of(self, server: grpc.aio.Server, admission: Admission) -> Any:
        """What the generated code takes for the server: it registers there what it is given, with the layer around.

        An interceptor of gRPC's could do the same, and would cost each call a tenth of its time. `admission` bounds the
        bytes of the methods' single requests.
        """
        return _Registration(lambda method, handler: self._wrap(method, handler, admission), server)

    def in_front_of_grpc(self, server: grpc.aio.Server) -> Any:
        """The same for services of gRPC itself: around their methods is only the check of who calls."""
        return _Registration(self._gate, server)

    def _gate(self, method: str, handler: Any) -> Any:
        gate = None if self._access is None else self._access.gate(method)
        return handler if gate is None else _gated(handler, gate)

    def _wrap(self, method: str, handler: Any, admission: Admission) -> Any:
        behavior = (
            handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        )
        answer: Answer = behavior
        if handler.response_streaming:
            answer = _writing(behavior)
        parse = make_parse(handler.request_deserializer, look_for(method))
        gate = None
        if self._access is not None:
            gate = self._access.gate(method, is_stream=handler.request_streaming)
            parse = self._access.checked(method, parse, is_stream=handler.request_streaming)
        if handler.request_streaming:
            answer = self._stoppable(answer, parse)
        else:
            answer = self._receiving(answer, parse, admission)
        streaming = handler.request_streaming or handler.response_streaming
        deadline_s = self._stream_deadline_s if streaming else self._unary_deadline_s
        answer = self._guarded(answer, deadline_s, gate)
        if self._tracing is not None:
            answer = self._tracing.around(method, answer)
        kind = (
            grpc.stream_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )
        return kind(answer, None, handler.response_serializer)

    def _guarded(self, answer: Answer, default_deadline_s: float, gate: Gate | None) -> Answer:
        """It has a deadline, is refused by the gate or when there are too many, and ends in a response or a status.

        A call that is refused has not been read: gRPC holds no more than a window of it.
        """

        async def answer_or_abort(requests: Any, context: Any) -> Any:
            self._concurrent += 1
            try:
                if gate is not None:
                    gate(context)
                if self._concurrent > self._max_concurrent:
                    raise _too_many("calls")
                remaining = context.time_remaining()
                if remaining is None:
                    set_deadline(default_deadline_s)
                    async with asyncio.timeout(default_deadline_s):
                        return await answer(requests, context)
                set_deadline(remaining)
                if remaining <= 0:
                    raise DeadlineExceeded("the deadline had passed before the call was begun")
                return await answer(requests, context)  # gRPC itself cancels it at the caller's deadline
            except grpc.aio.BaseError:
                raise  # the call is over: aborted by the handler, or the caller is gone
            except (Exception, asyncio.CancelledError) as error:
                if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                    raise  # the caller is gone, or the grace is over: gRPC cancelled this task, and answers
                status = abort_details(_as_tally_error(error))
                drop_tracebacks(error)
            finally:
                self._concurrent -= 1
            return await _abort(context, *status)

        return answer_or_abort

    def _receiving(self, answer: Answer, parse: Parse, admission: Admission) -> Answer:
        """Its one request is received, admitted by its size, and only then parsed.

        While it is answered, only the handler holds it, and may let it go.
        """

        async def answer_request(_: Any, context: Any) -> Any:
            admission.check_room()  # then it need not even be received
            data = await self._intake.receive(context.read)
            size = len(data)
            admission.enter(size)
            try:
                request = parse(data)
                del data
                answering = answer(request, context)
                del request
                return await answering
            finally:
                admission.leave(size)

        return answer_request

    def _stoppable(self, answer: Answer, parse: Parse) -> Answer:
        """Its stream of requests ends when the server stops, or at its age; then what was read is still answered."""

        async def answer_stream(_: Any, context: Any) -> Any:
            age_s = random.uniform(_YOUNGEST, 1.0) * self._max_stream_age_s  # noqa: S311 - it is no secret
            stream = _Requests(context.read, parse, self._stopping, age_s)
            self._streams += 1
            try:
                if self._streams > self._max_streams:
                    raise _too_many("streams")
                response = await answer(stream, context)
            finally:
                self._streams -= 1
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

    def __init__(
        self, read: Callable[[], Awaitable[Any]], parse: Parse, stopping: Stopping, age_s: float
    ) -> None:
        self._read = read
        self._parse = parse
        self._stopping = stopping
        self._until = asyncio.get_running_loop().time() + age_s
        self.stopped = False

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            data = await self._stopping.unless_stopped(self._read(), self._until)
        except Stopped:
            self.stopped = True
            raise StopAsyncIteration from None
        if data is grpc.aio.EOF:
            raise StopAsyncIteration
        return self._parse(data)


def _too_many(what: str) -> Overloaded:
    return Overloaded(
        f"too many {what} at once; send the same request again later",
        retry_after_s=_RETRY_AFTER_S,
        nothing_done=True,
    )


def _gated(handler: Any, gate: Gate) -> Any:
    """A handler of a service of gRPC's, behind a gate."""
    name = next(
        kind
        for kind in ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
        if getattr(handler, kind) is not None
    )
    behavior = getattr(handler, name)

    async def enter(context: Any) -> None:
        try:
            gate(context)
        except TallyError as error:
            status = abort_details(error)
        else:
            return
        await context.abort(*status)

    async def answer(request: Any, context: Any) -> Any:
        await enter(context)
        return await behavior(request, context)

    async def generate(request: Any, context: Any) -> AsyncIterator[Any]:
        await enter(context)
        async for response in behavior(request, context):
            yield response

    return handler._replace(**{name: generate if inspect.isasyncgenfunction(behavior) else answer})


async def _abort(context: Any, code: grpc.StatusCode, message: str, trailers: Any) -> None:
    """End a call with a status.

    gRPC keeps its AbortError as long as the call, and the error would keep the frames that it is raised through, with
    the call in them, until a collection of garbage. So it ends here; gRPC raises it again by itself.
    """
    try:
        await context.abort(code, message, trailers)
    except grpc.aio.BaseError as over:  # the call is over, by this or because the caller has gone
        drop_tracebacks(over)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _as_tally_error(error: BaseException) -> TallyError:
    """The error that the caller gets for an exception."""
    if isinstance(error, TallyError):
        return error
    if isinstance(error, asyncio.CancelledError):
        # Something that the handler awaited was cancelled. gRPC would take this for its own cancellation and
        # leave the caller without an answer until its deadline.
        return Unavailable("the server gave this call up, as it does when it stops; send the same again")
    if isinstance(error, TimeoutError) and has_passed():
        return DeadlineExceeded("the deadline passed before the call was answered")
    if isinstance(error, NotImplementedError):  # a method that only the base class defines
        return Unimplemented("this server does not answer this method")
    return _internal(error)


def _internal(error: BaseException) -> TallyError:
    """An error that keeps the exception's text from the caller, who gets an id to ask for it in the log."""
    error_id = uuid.uuid4().hex
    _LOGGER.error("unexpected exception", error_id=error_id, exc_info=error)
    trace.get_current_span().record_exception(error)
    return ServerFault(
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
