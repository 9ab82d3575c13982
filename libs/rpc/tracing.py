"""A span and a few metrics around each call, on both of its sides.

Names follow the OpenTelemetry conventions for RPC (https://opentelemetry.io/docs/specs/semconv/rpc/); the
context travels as W3C `traceparent`. With telemetry off none of this is in the path.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
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
_propagator = TraceContextTextMapPropagator()
# By the W3C: `traceparent` has 55 characters, and so many of `tracestate` should be passed on. A span keeps the latter.
_LONGEST = {"traceparent": MAX_TRACEPARENT_BYTES, "tracestate": 512}


class ServerTracing:
    """Spans and metrics of the calls that a server answers."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._tracer = telemetry.tracer
        self._duration = catalogue.histogram(telemetry.meter, catalogue.RPC_SERVER_DURATION)
        self._in_flight = catalogue.up_down_counter(telemetry.meter, catalogue.RPC_SERVER_IN_FLIGHT)

    def around(
        self, method: str, answer: Callable[[Any, Any], Awaitable[Any]]
    ) -> Callable[[Any, Any], Awaitable[Any]]:
        """The handler of `/service/method` with a span of its own, child of the caller's."""
        name = method.removeprefix("/")
        attributes = method_attributes(method)

        async def answer_traced(request: Any, context: Any) -> Any:
            metadata = {
                key: value
                for key, value in context.invocation_metadata()
                if isinstance(value, str) and len(value) <= _LONGEST.get(key, 0)
            }
            code = grpc.StatusCode.OK
            started = time.perf_counter()
            self._in_flight.add(1, attributes)
            with self._tracer.start_as_current_span(
                name,
                _propagator.extract(metadata),
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
                    code = context.code() or code
                    set_status(span, code, fault=code in _SERVER_FAULTS)
                    self._in_flight.add(-1, attributes)
                    self._duration.record(
                        time.perf_counter() - started, {**attributes, "rpc.grpc.status_code": code.value[0]}
                    )

        return answer_traced


def method_attributes(method: str) -> dict[str, str]:
    """The attributes that name `/service/method`."""
    service, _, name = method.removeprefix("/").rpartition("/")
    return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}


def set_status(span: Span, code: grpc.StatusCode, *, fault: bool) -> None:
    """Write the outcome of a call on its span."""
    span.set_attribute("rpc.grpc.status_code", code.value[0])
    if fault:
        span.set_status(Status(StatusCode.ERROR, code.name))


def inject_context() -> tuple[tuple[str, str], ...]:
    """The metadata that carries the current span to another service; empty without one."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return tuple(carrier.items())
