"""Which traces are recorded: as the caller decided, else a part of them.

The SDK decides too, but only after it has made an identity for the span, which costs more than the rest of what is
measured of a call. Here a trace that is not recorded costs a look at the context and a random number.
"""

import random
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Tracer
from opentelemetry.util.types import Attributes

# What is begun under it is not recorded either, here and in the services that are called.
NOT_RECORDED = NonRecordingSpan(
    SpanContext(random.getrandbits(128) | 1, random.getrandbits(64) | 1, is_remote=False)
)
_UNDER_IT = trace.set_span_in_context(NOT_RECORDED, Context())


class _NotRecorded(AbstractContextManager[Span]):
    """The context of a trace that is not recorded."""

    __slots__ = ("_token",)

    def __enter__(self) -> Span:
        self._token = contexts.attach(_UNDER_IT)
        return NOT_RECORDED

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        contexts.detach(self._token)


class SamplingTracer(Tracer):
    """Gives to `tracer`, which records all, what is to be recorded.

    A span with a parent is recorded if the parent is; another one, if it is linked to one that is, such as the flush
    of a traced request, or else in this part of all cases.
    """

    def __init__(self, tracer: Tracer, ratio: float) -> None:
        self._tracer = tracer
        self._ratio = ratio

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> Span:
        """A span of the tracer, or one that records nothing."""
        parent = trace.get_current_span(context)
        if not self._is_recorded(parent.get_span_context(), links):
            return NOT_RECORDED
        return self._tracer.start_span(
            name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception
        )

    def start_as_current_span(  # type: ignore[override]  # a plain context manager costs less than theirs
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> AbstractContextManager[Span]:
        """A context with a span of the tracer, or with one that records nothing."""
        parent = trace.get_current_span(context)
        parent_context = parent.get_span_context()
        if self._is_recorded(parent_context, links):
            return self._tracer.start_as_current_span(
                name,
                context,
                kind,
                attributes,
                links,
                start_time,
                record_exception,
                set_status_on_exception,
                end_on_exit,
            )
        if not parent_context.is_valid:
            return _NotRecorded()
        return nullcontext(parent) if context is None else trace.use_span(parent)

    def _is_recorded(self, parent: SpanContext, links: Sequence[Link] | None) -> bool:
        if parent.is_valid:
            return parent.trace_flags.sampled
        if links and any(link.context.trace_flags.sampled for link in links):
            return True
        return random.random() < self._ratio  # noqa: S311 - it is no secret
