"""The journal commit and the flush in the traces of the requests that they serve.

A commit serves many requests, and a span has one parent: so each request's trace gets a span of its own for the same
commit, and the commit's span is linked to all of them. A flush serves the commits before it: its span is linked to
theirs. Nothing is done for requests that are not sampled.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import Link, SpanContext, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from libs.telemetry.setup import Telemetry

_propagator = TraceContextTextMapPropagator()
_SAMPLED = tuple("13579bdf")
"""how a traceparent ends whose lowest flag is set: https://www.w3.org/TR/trace-context/#sampled-flag"""
_MOST_LINKS = 100
"""A span of the SDK keeps 128."""


class CommitTracing:
    """The spans of one log."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._unflushed: deque[SpanContext] = deque(maxlen=_MOST_LINKS)

    @contextmanager
    def commit(self, traceparents: Iterable[str]) -> Iterator[None]:
        """A span around the commit of a group, and one in each sampled trace that its entries carry."""
        sampled = dict.fromkeys(each for each in traceparents if each.endswith(_SAMPLED))
        if not (sampled and self._telemetry.enabled):
            yield
            return
        tracer = self._telemetry.tracer
        contexts = [_propagator.extract({"traceparent": parent}) for parent in sampled][:_MOST_LINKS]
        started_ns = time.time_ns()
        links = [Link(trace.get_current_span(context).get_span_context()) for context in contexts]
        with tracer.start_as_current_span("journal commit group", links=links):
            yield
        for context in contexts:
            consumed = tracer.start_span(
                "counting append", context, kind=SpanKind.CONSUMER, start_time=started_ns
            )
            with trace.use_span(consumed, end_on_exit=True):
                commit = tracer.start_span("journal commit", start_time=started_ns)
                commit.end()
                self._unflushed.append(commit.get_span_context())

    @contextmanager
    def flush(self) -> Iterator[None]:
        """A span around a flush, linked to the sampled commits since the last one; none without any."""
        if not self._unflushed:
            yield
            return
        links = [Link(commit) for commit in self._unflushed]
        self._unflushed.clear()
        with self._telemetry.tracer.start_as_current_span("flush", links=links):
            yield
