"""The HTTP endpoint: metrics for Prometheus by the names of the catalogue, and recent traces."""

import socket
import struct
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import prometheus_client
import pytest
from opentelemetry.metrics import Observation
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.trace import Link, format_trace_id
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from libs.telemetry import catalogue
from libs.telemetry.catalogue import Kind, Metric
from libs.telemetry.endpoint import _MOST_CONNECTIONS, open_endpoint
from libs.telemetry.recent_spans import RecentSpans
from libs.telemetry.settings import TelemetrySettings
from libs.telemetry.setup import OFF, Telemetry, open_telemetry
from tally.contract.errors import NotReady

ANYWHERE = TelemetrySettings(address="127.0.0.1:0", trace_ratio=1.0)


def get(telemetry: Telemetry, path: str) -> bytes:
    with urllib.request.urlopen(f"http://{telemetry.address}{path}", timeout=10) as answer:
        body: bytes = answer.read()
        return body


def touch(telemetry: Telemetry, metric: Metric) -> None:
    """Report one value with every attribute."""
    attributes = dict.fromkeys(metric.attributes, "some")
    match metric.kind:
        case Kind.COUNTER:
            catalogue.counter(telemetry.meter, metric).add(1, attributes)
        case Kind.HISTOGRAM:
            catalogue.histogram(telemetry.meter, metric).record(1, attributes)
        case Kind.GAUGE | Kind.OBSERVED_COUNTER:
            catalogue.observe(telemetry.meter, metric, lambda: [Observation(1, attributes)])


def test_every_metric_has_the_name_and_the_labels_of_the_catalogue() -> None:
    with open_telemetry("tally-test", ANYWHERE) as telemetry:
        for metric in catalogue.ALL:
            touch(telemetry, metric)
        text = get(telemetry, "/metrics").decode()
    labels = {
        sample.name: set(sample.labels) - {"le"}
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    for metric in catalogue.ALL:
        name = metric.prometheus_name + ("_bucket" if metric.kind is Kind.HISTOGRAM else "")
        assert labels[name] == {each.replace(".", "_") for each in metric.attributes}, name


def test_a_counter_without_attributes_is_there_before_it_counts() -> None:
    with open_telemetry("tally-test", ANYWHERE) as telemetry:
        catalogue.counter(telemetry.meter, catalogue.LOGS_TAKEN_OVER)
        assert "tally_log_taken_over_total 0.0" in get(telemetry, "/metrics").decode()


class Meeting(Collector):
    """Notes whether two collect at once, as those of OpenTelemetry must not: one would get what belongs to both."""

    def __init__(self) -> None:
        self._both = threading.Barrier(2)
        self.met = False

    def collect(self) -> Iterable[prometheus_client.Metric]:
        with suppress(threading.BrokenBarrierError):
            self._both.wait(timeout=0.3)
            self.met = True
        return []


def test_scrapes_at_once_are_answered_one_after_the_other() -> None:
    registry, meeting = CollectorRegistry(), Meeting()
    registry.register(meeting)
    with open_endpoint("127.0.0.1:0", registry, RecentSpans(1)) as address, ThreadPoolExecutor(2) as scrapers:
        url = f"http://{address}/metrics"
        for answer in scrapers.map(lambda _: urllib.request.urlopen(url, timeout=10), range(2)):
            assert answer.status == 200
            answer.close()
    assert not meeting.met


def test_silent_connections_take_a_bounded_number_of_threads_and_print_nothing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with open_telemetry("tally-test", ANYWHERE) as telemetry, ExitStack() as stack:
        assert telemetry.address is not None
        host, _, port = telemetry.address.rpartition(":")

        def connect() -> socket.socket:
            return stack.enter_context(socket.create_connection((host, int(port)), timeout=2))

        held = [connect() for _ in range(_MOST_CONNECTIONS)]
        for _ in range(3):
            assert connect().recv(1) == b""  # it is closed
        held[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        held[0].close()  # it is reset
        for each in held[1:]:
            each.close()
        while True:
            with suppress(OSError):
                get(telemetry, "/metrics")
                break
    assert capfd.readouterr() == ("", "")


def test_a_trace_is_found_with_what_is_linked_to_it_until_newer_spans_take_its_place() -> None:
    with open_telemetry("tally-test", ANYWHERE.model_copy(update={"spans_kept": 3})) as telemetry:
        tracer = telemetry.tracer
        with tracer.start_as_current_span("request") as request:
            pass
        tracer.start_span("flush", links=[Link(request.get_span_context())]).end()
        tracer.start_span("other").end()
        path = f"/traces/{format_trace_id(request.get_span_context().trace_id)}"

        def names() -> list[str]:
            found = ExportTraceServiceRequest.FromString(get(telemetry, path))
            return [
                span.name
                for each in found.resource_spans
                for scope in each.scope_spans
                for span in scope.spans
            ]

        assert names() == ["request", "flush"]
        tracer.start_span("other").end()
        assert names() == ["flush"]


def test_anything_else_is_not_found() -> None:
    with open_telemetry("tally-test", ANYWHERE) as telemetry:
        for path in ("/", "/traces/1", "/traces/" + "G" * 32):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                get(telemetry, path)


def test_an_address_may_be_of_ipv6() -> None:
    with open_telemetry("tally-test", TelemetrySettings(address="[::1]:0")) as telemetry:
        assert telemetry.address is not None
        assert telemetry.address.startswith("[::1]:")
        catalogue.counter(telemetry.meter, catalogue.LOGS_TAKEN_OVER)
        assert "tally_log_taken_over_total" in get(telemetry, "/metrics").decode()


def test_an_address_that_is_taken_is_told_with_the_setting() -> None:
    with open_telemetry("tally-test", ANYWHERE) as telemetry:
        assert telemetry.address is not None
        taken = TelemetrySettings(address=telemetry.address)
        with pytest.raises(NotReady, match="TALLY_TELEMETRY__ADDRESS"), open_telemetry("tally-test", taken):
            pass


def test_the_endpoint_is_off_where_the_standard_variable_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with open_telemetry("tally-test", ANYWHERE) as telemetry:
        assert telemetry == OFF


@pytest.mark.parametrize("address", ["9464", "localhost", "localhost:http", "localhost:70000", ":9464"])
def test_an_address_has_a_host_and_a_port(address: str) -> None:
    with pytest.raises(ValueError, match="must be host:port"):
        TelemetrySettings(address=address)
