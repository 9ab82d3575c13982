"""A span and a few metrics around each call, on both of its sides.

Names follow the OpenTelemetry conventions for gRPC (https://opentelemetry.io/docs/specs/semconv/rpc/grpc/); the
context travels as W3C `traceparent`. With telemetry off none of this is in the path.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping
from typing import Any

import grpc
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from libs.domain.entry import MAX_TRACEPARENT_BYTES
from libs.rpc.deadline import has_passed
from libs.telemetry import catalogue
from libs.telemetry.setup import Telemetry

# The codes that the conventions call the server's fault; others are the client's, and no error of this span.
_SERVER_FAULTS = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
CLIENT_FAULTS = frozenset(grpc.StatusCode) - {grpc.StatusCode.OK}
_propagator = TraceContextTextMapPropagator()
# By the W3C: `traceparent` has 55 characters, and so many of `tracestate` should be passed on. A span keeps the latter.
_LONGEST = {"traceparent": MAX_TRACEPARENT_BYTES, "tracestate": 512}


class ServerTracing:
    """Spans and metrics of the calls that a server answers."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._tracer = telemetry.tracer
        self._duration = catalogue.histogram(telemetry.meter, catalogue.RPC_SERVER_DURATION)
        self.in_flight: Counter[str] = Counter()
        """calls being answered, by method"""

    def around(
        self, method: str, answer: Callable[[Any, Any], Awaitable[Any]]
    ) -> Callable[[Any, Any], Awaitable[Any]]:
        """The handler of `/service/method` with a span of its own, child of the caller's."""
        name = method.removeprefix("/")
        attributes = method_attributes(method)

        async def answer_traced(request: Any, context: Any) -> Any:
            code = grpc.StatusCode.OK
            started = time.perf_counter()
            self.in_flight[name] += 1
            with self._tracer.start_as_current_span(
                name,
                _context_of(context.invocation_metadata()),
                SpanKind.SERVER,
                attributes,
                record_exception=False,
                set_status_on_exception=False,
            ) as span:
                try:
                    return await answer(request, context)
                except asyncio.CancelledError:
                    code = grpc.StatusCode.DEADLINE_EXCEEDED if has_passed() else grpc.StatusCode.CANCELLED
                    raise
                except BaseException:
                    code = grpc.StatusCode.UNKNOWN
                    raise
                finally:
                    outcome = outcome_attributes(context.code() or code, _SERVER_FAULTS)
                    set_outcome(span, outcome)
                    self.in_flight[name] -= 1
                    self._duration.record(time.perf_counter() - started, {**attributes, **outcome})

        return answer_traced


def _context_of(metadata: Iterable[tuple[str, str | bytes]]) -> Context | None:
    """The caller's trace context, if it sent one."""
    carrier = {
        key: value
        for key, value in metadata
        if key in _LONGEST and isinstance(value, str) and len(value) <= _LONGEST[key]
    }
    return _propagator.extract(carrier) if carrier else None


def method_attributes(method: str) -> dict[str, str]:
    """The attributes that name `/service/method`."""
    return {"rpc.system.name": "grpc", "rpc.method": method.removeprefix("/")}


def outcome_attributes(code: grpc.StatusCode, faults: Container[grpc.StatusCode]) -> Mapping[str, str]:
    """The attributes of how a call ended; a code of `faults` is an error."""
    if code in faults:
        return {"rpc.response.status_code": code.name, "error.type": code.name}
    return {"rpc.response.status_code": code.name}


def set_outcome(span: Span, outcome: Mapping[str, str]) -> None:
    """Write the outcome of a call on its span."""
    if span.is_recording():
        span.set_attributes(outcome)
        if error := outcome.get("error.type"):
            span.set_status(Status(StatusCode.ERROR, error))


def inject_context() -> tuple[tuple[str, str], ...]:
    """The metadata that carries the current span to another service; empty without one."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return tuple(carrier.items())
