"""A span around each HTTP request to another company's api.

Names follow the OpenTelemetry conventions for HTTP (https://opentelemetry.io/docs/specs/semconv/http/http-spans/). The
query of a URL may hold a key, so it is left out; and the trace context is not passed on, because it is not theirs.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer

_FIRST_ERROR = 400


@contextmanager
def trace_get(tracer: Tracer, url: str) -> Iterator[Callable[[int], None]]:
    """A span around a GET of `url`; yields the function that notes the status of the answer.

    An exception without a status that was noted is the error of the span.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    place = host if port is None else f"{host}:{port}"
    attributes: dict[str, str | int] = {
        "http.request.method": "GET",
        "url.full": f"{parts.scheme}://{place}{parts.path}",
        "server.address": host,
    }
    if port is not None:
        attributes["server.port"] = port
    noted: list[int] = []
    with tracer.start_as_current_span(
        "GET",
        kind=SpanKind.CLIENT,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:

        def fail(error_type: str) -> None:
            span.set_attribute("error.type", error_type)
            span.set_status(Status(StatusCode.ERROR, error_type))

        def note(status: int) -> None:
            noted.append(status)
            span.set_attribute("http.response.status_code", status)
            if status >= _FIRST_ERROR:
                fail(str(status))

        try:
            yield note
        except BaseException as error:
            if not noted:
                fail(type(error).__name__)
            raise
