"""The HTTP endpoint of a process: `/metrics` for Prometheus, and `/traces/<trace id>` for `tally trace`.

A trace is an ExportTraceServiceRequest of OTLP, as protobuf. The server has threads of its own, so that it answers
while the event loop is busy; what it reads is in memory.
"""

import re
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import structlog
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from prometheus_client import CollectorRegistry, make_wsgi_app

from libs.telemetry.recent_spans import RecentSpans
from tally.contract.errors import NotReady

_LOGGER = structlog.get_logger(__name__)

_TRACE = re.compile(r"/traces/([0-9a-f]{32})")
_TEXT = ("Content-Type", "text/plain; charset=utf-8")
_PROTOBUF = ("Content-Type", "application/x-protobuf")
_HELP = b"There are /metrics and /traces/<trace id>.\n"
_SILENCE_SECONDS = 10
_MOST_CONNECTIONS = 16
"""Each has a thread; those beyond are closed at once."""

Start = Callable[[str, list[tuple[str, str]]], Any]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = _MOST_CONNECTIONS

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._free = threading.BoundedSemaphore(_MOST_CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # there is no thread that would give it back
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the library's
        """Where the library prints a traceback for each connection that was silent or broke."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            _LOGGER.error("telemetry endpoint cannot answer", client=str(client_address), exc_info=error)


class _ServerOfIpv6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = _SILENCE_SECONDS  # a connection that is silent keeps no thread

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the signature is the library's
        """Does nothing: a scrape is no news."""

    def address_string(self) -> str:
        return str(self.client_address[0])


@contextmanager
def open_endpoint(address: str, registry: CollectorRegistry, spans: RecentSpans) -> Iterator[str]:
    """Serve until the context ends; yields `host:port`. Raises NotReady when the address cannot be had."""
    host, _, port = address.rpartition(":")
    try:
        server = make_server(
            host.strip("[]"),
            int(port),
            _make_app(registry, spans),
            server_class=_ServerOfIpv6 if host.startswith("[") else _Server,
            handler_class=_Handler,
        )
    except OSError as error:
        raise NotReady(
            f"cannot serve metrics at {address}: {error.strerror or error}. Set another TALLY_TELEMETRY__ADDRESS"
        ) from error
    thread = threading.Thread(target=server.serve_forever, name="telemetry endpoint", daemon=True)
    thread.start()
    try:
        yield f"{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _make_app(
    registry: CollectorRegistry, spans: RecentSpans
) -> Callable[[dict[str, Any], Start], Iterable[bytes]]:
    metrics: Any = make_wsgi_app(registry)
    # OpenTelemetry's collector gives what two scrapes at once have collected to one of them, and nothing to the other.
    one_scrape = threading.Lock()

    def answer(environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        path = str(environ.get("PATH_INFO", ""))
        if path == "/metrics":
            with one_scrape:  # the answer is made here, and sent after that
                found: Iterable[bytes] = metrics(environ, start)
            return found
        if trace := _TRACE.fullmatch(path):
            start("200 OK", [_PROTOBUF])
            return [encode_spans(spans.find(int(trace[1], 16))).SerializeToString()]
        start("404 Not Found", [_TEXT])
        return [_HELP]

    return answer
