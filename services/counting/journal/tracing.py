"""The journal commit in the traces of the requests that it serves.

A commit serves many requests, and a span has one parent: so each request's trace gets a span of its own for the same
commit, and the commit's span is linked to all of them.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import Link, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from libs.telemetry.setup import Telemetry

_propagator = TraceContextTextMapPropagator()


@contextmanager
def trace_commit(telemetry: Telemetry, traceparents: Sequence[str]) -> Iterator[None]:
    """A span around the commit of a group, and one in each trace that its entries carry."""
    if not telemetry.enabled:
        yield
        return
    contexts = [
        _propagator.extract({"traceparent": parent}) for parent in dict.fromkeys(traceparents) if parent
    ]
    started_ns = time.time_ns()
    links = [Link(trace.get_current_span(context).get_span_context()) for context in contexts]
    with telemetry.tracer.start_as_current_span("journal commit group", links=links):
        yield
    for context in contexts:
        consumed = telemetry.tracer.start_span(
            "counting append", context, kind=SpanKind.CONSUMER, start_time=started_ns
        )
        with trace.use_span(consumed, end_on_exit=True):
            telemetry.tracer.start_span("journal commit", start_time=started_ns).end()
