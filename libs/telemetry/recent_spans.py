"""The most recent spans of this process, kept in memory so that a trace can be read without a collector."""

import threading
from collections import deque
from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor


class RecentSpans(SpanProcessor):
    """Keeps the last spans that ended. Spans of requests that are not sampled do not come here."""

    def __init__(self, most: int) -> None:
        self._spans: deque[ReadableSpan] = deque(maxlen=most)
        self._lock = threading.Lock()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Does nothing: a span is kept when it ends."""

    def on_end(self, span: ReadableSpan) -> None:
        """Keep a span in place of the oldest one."""
        with self._lock:
            self._spans.append(span)

    def find(self, trace_id: int) -> Sequence[ReadableSpan]:
        """The spans of a trace, and those that are linked to it, such as the flush that served it."""
        with self._lock:
            spans = list(self._spans)
        return [
            span
            for span in spans
            if span.context.trace_id == trace_id
            or any(link.context.trace_id == trace_id for link in span.links)
        ]

    def shutdown(self) -> None:
        """Drop all of them."""
        with self._lock:
            self._spans.clear()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Does nothing: they are sent nowhere."""
        _ = timeout_millis
        return True
