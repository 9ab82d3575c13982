"""Spans and metrics arrive at a collector; without one, or with one that is unreachable, nothing is held up."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from libs.rpc.calls import UnaryCall
from libs.rpc.channel import ChannelSettings, open_channel
from libs.rpc.server import open_server
from libs.telemetry import catalogue
from libs.telemetry.settings import TelemetrySettings
from libs.telemetry.setup import OFF, Telemetry, open_telemetry
from tally.contract.errors import NotReady, Overloaded, Unavailable
from tally.counting.v1 import counting_pb2
from tests.integration.libs.rpc.servicer import ANY_PORT, APPEND, Counting, CountingStub, counting
from tests.support.eventually import eventually
from tests.support.otlp import Collector, open_collector

REQUEST = counting_pb2.AppendRequest()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with open_collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
        yield collector


async def call_once(telemetry: Telemetry, servicer: Counting) -> None:
    async with (
        open_server(ANY_PORT, [counting(servicer)], telemetry=telemetry) as server,
        open_channel(server.address, ChannelSettings(max_attempts=2)) as channel,
    ):
        call = UnaryCall(CountingStub(channel).Append, APPEND, telemetry=telemetry)
        await call(REQUEST, timeout_s=10)


def attributes_of(span: Span) -> dict[str, str | int]:
    return {
        attribute.key: attribute.value.string_value or attribute.value.int_value
        for attribute in span.attributes
    }


async def test_one_trace_runs_from_the_client_through_the_server_and_on(collector: Collector) -> None:
    with open_telemetry("tally-test") as telemetry:

        async def journal() -> None:
            with telemetry.tracer.start_as_current_span("journal commit"):
                pass

        with telemetry.tracer.start_as_current_span("request"):
            await call_once(telemetry, Counting(journal))
    spans = {(span.name, span.kind): span for span in collector.wait_for_spans(4)}
    method = APPEND.removeprefix("/")
    root = spans["request", Span.SPAN_KIND_INTERNAL]
    client = spans[method, Span.SPAN_KIND_CLIENT]
    server = spans[method, Span.SPAN_KIND_SERVER]
    commit = spans["journal commit", Span.SPAN_KIND_INTERNAL]
    assert {span.trace_id for span in spans.values()} == {root.trace_id}
    assert [client.parent_span_id, server.parent_span_id, commit.parent_span_id] == [
        root.span_id,
        client.span_id,
        server.span_id,
    ]
    assert attributes_of(server) == {
        "rpc.system.name": "grpc",
        "rpc.method": "tally.counting.v1.CountingService/Append",
        "rpc.response.status_code": "OK",
    }
    assert collector.services == {"tally-test"}


@pytest.mark.parametrize(
    ("error", "code", "server_status"),
    [
        (Unavailable("away"), "UNAVAILABLE", Status.STATUS_CODE_ERROR),
        (Overloaded("full", retry_after_s=1), "RESOURCE_EXHAUSTED", Status.STATUS_CODE_UNSET),
    ],
    ids=["the server's fault", "the caller's"],
)
async def test_a_failure_is_on_the_spans_of_those_whose_fault_it_is(
    collector: Collector, error: Exception, code: str, server_status: int
) -> None:
    async def fail() -> None:
        raise error

    with open_telemetry("tally-test") as telemetry, pytest.raises(type(error)):
        await call_once(telemetry, Counting(fail))
    by_kind = {span.kind: span for span in collector.spans}
    server, client = by_kind[Span.SPAN_KIND_SERVER], by_kind[Span.SPAN_KIND_CLIENT]
    assert attributes_of(server)["rpc.response.status_code"] == code
    assert server.status.code == server_status
    assert (attributes_of(server).get("error.type") == code) is (server_status == Status.STATUS_CODE_ERROR)
    assert attributes_of(client)["rpc.response.status_code"] == attributes_of(client)["error.type"] == code
    assert client.status.code == Status.STATUS_CODE_ERROR


async def test_a_call_whose_caller_went_away_is_cancelled_and_not_failed(collector: Collector) -> None:
    begun = asyncio.Event()

    async def hold() -> None:
        begun.set()
        await asyncio.Event().wait()

    with open_telemetry("tally-test") as telemetry:
        call = asyncio.create_task(call_once(telemetry, Counting(hold)))
        await begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    by_kind = {span.kind: span for span in collector.spans}
    server, client = by_kind[Span.SPAN_KIND_SERVER], by_kind[Span.SPAN_KIND_CLIENT]
    assert [attributes_of(span)["rpc.response.status_code"] for span in (server, client)] == ["CANCELLED"] * 2
    assert server.status.code == Status.STATUS_CODE_UNSET


@pytest.mark.parametrize(("ratio", "expected"), [(0.0, 0), (1.0, 2)])
def test_a_part_of_the_traces_is_recorded_and_those_whose_caller_wants_it(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, ratio: float, expected: int
) -> None:
    monkeypatch.delenv("OTEL_TRACES_SAMPLER")
    wanted = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    unwanted = SpanContext(3, 4, is_remote=True)
    with open_telemetry("tally-test", TelemetrySettings(trace_ratio=ratio)) as telemetry:
        tracer = telemetry.tracer
        tracer.start_span("by ratio").end()
        tracer.start_span("by ratio, linked", links=[Link(unwanted)]).end()
        tracer.start_span("child", set_span_in_context(NonRecordingSpan(wanted))).end()
        tracer.start_span("linked", links=[Link(unwanted), Link(wanted)]).end()
        tracer.start_span("unwanted", set_span_in_context(NonRecordingSpan(unwanted))).end()
    names = [span.name for span in collector.spans]
    assert names.count("by ratio") + names.count("by ratio, linked") == expected
    assert {"child", "linked"} <= set(names)
    assert "unwanted" not in names


async def test_calls_are_counted_and_timed_by_method_and_code(collector: Collector) -> None:
    with open_telemetry("tally-test") as telemetry:
        for _ in range(3):
            await call_once(telemetry, Counting())
    metrics = {metric.name: metric for metric in collector.metrics}
    [point] = metrics[catalogue.RPC_SERVER_DURATION.name].histogram.data_points
    labels = {label.key: label.value.string_value or label.value.int_value for label in point.attributes}
    assert point.count == 3
    assert tuple(point.explicit_bounds) == catalogue.SECONDS
    assert labels == {
        "rpc.system.name": "grpc",
        "rpc.method": "tally.counting.v1.CountingService/Append",
        "rpc.response.status_code": "OK",
    }
    [client] = metrics[catalogue.RPC_CLIENT_DURATION.name].histogram.data_points
    assert client.count == 3


@pytest.mark.usefixtures("collector")
async def test_calls_are_counted_while_they_are_answered() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        begun.set()
        await ended.wait()

    with open_telemetry("tally-test") as telemetry:
        async with (
            open_server(ANY_PORT, [counting(Counting(hold))], telemetry=telemetry) as server,
            open_channel(server.address, ChannelSettings()) as channel,
        ):
            call = asyncio.create_task(UnaryCall(CountingStub(channel).Append, APPEND)(REQUEST, timeout_s=10))
            await begun.wait()
            assert server.in_flight == {APPEND.removeprefix("/"): 1}
            assert server.saturation() == {"calls": 1 / ANY_PORT.max_concurrent_rpcs, "streams": 0}
            ended.set()
            await call
            await eventually(lambda: asyncio.sleep(0, not any(server.in_flight.values())), 5)


async def test_a_gauge_reports_what_its_reader_says(collector: Collector) -> None:
    queued = catalogue.Metric("tally.test.queued", catalogue.Kind.GAUGE, "{entry}", "Entries queued.")
    with open_telemetry("tally-test") as telemetry:
        catalogue.observe(telemetry.meter, queued, lambda: 7)
    [metric] = [metric for metric in collector.metrics if metric.name == queued.name]
    assert [point.as_int for point in metric.gauge.data_points] == [7]


async def test_the_standard_variable_names_the_service(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "tally-eu")
    with open_telemetry("tally-test") as telemetry, telemetry.tracer.start_as_current_span("request"):
        await asyncio.sleep(0)
    assert collector.services == {"tally-eu"}


def test_without_an_endpoint_there_are_no_threads_and_no_sdk() -> None:
    # in a process of its own, because the SDK may have been imported here by another test
    script = """
import sys, threading
from libs.telemetry.setup import OFF, open_telemetry
with open_telemetry("tally-test") as telemetry:
    assert telemetry == OFF, telemetry
    assert not telemetry.tracer.start_span("request").is_recording()
    assert threading.active_count() == 1, threading.enumerate()
assert not [name for name in sys.modules if name.startswith("opentelemetry.sdk")]
"""
    subprocess.run([sys.executable, "-c", script], check=True, env={}, timeout=60)  # noqa: S603 - our own


def test_disabled_by_the_standard_variable_it_is_off(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with open_telemetry("tally-test") as telemetry, telemetry.tracer.start_as_current_span("request"):
        assert not telemetry.enabled
    assert collector.spans == []


@pytest.mark.parametrize("signal", ["TRACES", "METRICS"])
def test_a_signal_whose_exporter_is_none_is_off(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, signal: str
) -> None:
    monkeypatch.setenv(f"OTEL_{signal}_EXPORTER", "none")
    with open_telemetry("tally-test") as telemetry:
        assert telemetry.enabled
        with telemetry.tracer.start_as_current_span("request") as span:
            assert span.is_recording() is (signal != "TRACES")
        telemetry.meter.create_counter("tally.test").add(1)
    assert bool(collector.spans) is (signal != "TRACES")
    assert bool(collector.metrics) is (signal != "METRICS")


def test_with_both_exporters_none_it_is_off(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "nobody reads it")
    with open_telemetry("tally-test") as telemetry:
        assert telemetry == OFF
    assert collector.spans == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "-1"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "nan"),
        ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", ""),
        ("OTEL_TRACES_EXPORTER", "console"),
        ("OTEL_METRICS_EXPORTER", "prometheus"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "best"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "-5"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv(name, value)
    with pytest.raises(NotReady, match=name), open_telemetry("tally-test"):
        pass


def test_a_collector_that_is_away_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    before = threading.active_count()
    with open_telemetry("tally-test", flush_seconds=0.5) as telemetry:
        with telemetry.tracer.start_as_current_span("request"):
            pass
        started = time.monotonic()
    assert time.monotonic() - started < 5
    end = time.monotonic() + 4  # the exporter left to itself goes on for 7 s
    while threading.active_count() > before and time.monotonic() < end:
        threading.Event().wait(0.05)
    assert threading.active_count() <= before
