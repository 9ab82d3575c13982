"""Spans of a client's requests, and the trace context that goes with them; nothing without a tracer.

OpenTelemetry is imported only with a tracer of the application: the client does not depend on it.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import grpc

Metadata = tuple[tuple[str, str], ...]

_NOTHING: AbstractContextManager[None] = nullcontext()
_NO_METADATA: AbstractContextManager[Metadata] = nullcontext(())


class Tracer(Protocol):
    """What is used of a tracer of OpenTelemetry."""

    def start_as_current_span(
        self, name: str, /, *arguments: Any, **options: Any
    ) -> AbstractContextManager[Any]:
        """A context with a span."""
        ...


class Tracing:
    """The spans of one client."""

    def __init__(self, tracer: Tracer | None = None) -> None:
        self._tracer = tracer

    def batch(self, events: int) -> AbstractContextManager[object]:
        """A span around a batch, from its first attempt to its result."""
        if self._tracer is None:
            return _NOTHING
        return self._tracer.start_as_current_span(
            "batch", attributes={"tally.events": events}, record_exception=False
        )

    def attempt(self, path: str) -> AbstractContextManager[Metadata]:
        """A span around one attempt of a call; yields the metadata that carry it to the service."""
        return _NO_METADATA if self._tracer is None else _attempt(self._tracer, path)


NO_TRACING = Tracing()


@contextmanager
def _attempt(tracer: Tracer, path: str) -> Iterator[Metadata]:
    """Named as OpenTelemetry does (https://opentelemetry.io/docs/specs/semconv/rpc/grpc/)."""
    from opentelemetry.trace import SpanKind, Status, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    method = path.removeprefix("/")
    attributes = {"rpc.system.name": "grpc", "rpc.method": method}
    with tracer.start_as_current_span(
        method,
        kind=SpanKind.CLIENT,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier)
        code = grpc.StatusCode.OK
        try:
            yield tuple(carrier.items())
        except grpc.aio.AioRpcError as error:
            code = error.code()
            raise
        except BaseException:
            code = grpc.StatusCode.CANCELLED
            raise
        finally:
            span.set_attribute("rpc.response.status_code", code.name)
            if code is not grpc.StatusCode.OK:
                span.set_attribute("error.type", code.name)
                span.set_status(Status(StatusCode.ERROR, code.name))
