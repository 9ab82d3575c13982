"""Logs in one place: structlog, with everything that uses the standard library's logging routed through it.

One JSON object a line, or coloured text on a terminal; UTC; `trace_id` and `span_id` inside a span.
"""

import logging
import sys
from typing import Literal, TextIO

import structlog
from opentelemetry import trace
from pydantic import BaseModel, Field
from structlog.typing import EventDict, Processor, WrappedLogger

from libs.telemetry.sampling import NOT_RECORDED


class LogSettings(BaseModel, frozen=True, extra="forbid"):
    """What is logged, and in which form."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="least severe level that is logged"
    )
    format: Literal["auto", "json", "text"] = Field(
        "auto", description="one JSON object a line, or text for people; auto: text on a terminal"
    )


def set_up_logs(settings: LogSettings, stream: TextIO = sys.stderr) -> None:
    """Send the logs of the whole process to `stream`. Called once, before anything logs; again, it replaces."""
    text = settings.format == "text" or (settings.format == "auto" and stream.isatty())
    level = logging.getLevelNamesMapping()[settings.level]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_span,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *(_for_people(stream) if text else _for_machines()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    # It logs each attempt to reconnect with a traceback; the user of the connection reports the error.
    logging.getLogger("asyncpg.pool").setLevel(logging.ERROR)
    # below INFO gRPC writes several lines for each call
    logging.getLogger("grpc").setLevel(max(level, logging.INFO))


def add_span(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Add the current span's ids, as OpenTelemetry writes them: of requests that are traced here, or by the caller."""
    span = trace.get_current_span()
    context = span.get_span_context()
    if context.is_valid and span is not NOT_RECORDED:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
        event["span_id"] = trace.format_span_id(context.span_id)
    return event


def _for_people(stream: TextIO) -> list[Processor]:
    # plain tracebacks: the pretty ones print local variables, and so what callers sent
    return [
        structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    ]


def _for_machines() -> list[Processor]:
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
