"""What a log line looks like."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from libs.telemetry.logs import LogSettings, set_up_logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the logs go; afterwards logging is as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield io.StringIO()
    root.handlers = handlers
    root.setLevel(level)
    logging.getLogger("grpc").setLevel(logging.NOTSET)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_the_time_in_utc(stream: io.StringIO) -> None:
    set_up_logs(LogSettings(), stream)
    structlog.get_logger("tally.test").info("flushed", keys=3)
    [line] = lines(stream)
    time = line.pop("timestamp")
    assert time.endswith("Z")
    assert "T" in time
    assert line == {"event": "flushed", "keys": 3, "level": "info", "logger": "tally.test"}


def test_the_standard_library_comes_out_in_the_same_form(stream: io.StringIO) -> None:
    set_up_logs(LogSettings(), stream)
    logging.getLogger("asyncpg").warning("%s is slow", "it", extra={"pid": 7})
    [line] = lines(stream)
    assert (line["event"], line["level"], line["logger"], line["pid"]) == (
        "it is slow",
        "warning",
        "asyncpg",
        7,
    )


def test_what_is_below_the_level_is_not_logged(stream: io.StringIO) -> None:
    set_up_logs(LogSettings(level="WARNING"), stream)
    structlog.get_logger().info("quiet")
    logging.getLogger("grpc").info("quiet")
    structlog.get_logger().warning("loud")
    assert [line["event"] for line in lines(stream)] == ["loud"]


def test_a_line_inside_a_span_names_the_trace(stream: io.StringIO) -> None:
    set_up_logs(LogSettings(), stream)
    span = NonRecordingSpan(SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(1)))
    with trace.use_span(span):
        structlog.get_logger().info("inside")
    structlog.get_logger().info("outside")
    inside, outside = lines(stream)
    assert (inside["trace_id"], inside["span_id"]) == (f"{0xABC:032x}", f"{0xDEF:016x}")
    assert "trace_id" not in outside


def test_an_exception_is_one_line_with_its_traceback(stream: io.StringIO) -> None:
    set_up_logs(LogSettings(), stream)
    try:
        raise LookupError("no such video")
    except LookupError:
        structlog.get_logger().exception("failed")
    [line] = lines(stream)
    assert line["exception"].endswith("LookupError: no such video")


def test_text_for_people_shows_no_local_variables(stream: io.StringIO) -> None:
    set_up_logs(LogSettings(format="text"), stream)
    password = "hunter" + "2"
    try:
        raise LookupError("no such video")
    except LookupError:
        structlog.get_logger().exception("failed")
    assert "LookupError: no such video" in stream.getvalue()
    assert password not in stream.getvalue()


def test_setting_up_twice_does_not_log_twice(stream: io.StringIO) -> None:
    set_up_logs(LogSettings(), stream)
    set_up_logs(LogSettings(), stream)
    structlog.get_logger().info("once")
    assert len(lines(stream)) == 1
