"""OpenTelemetry in one place: traces and metrics to an OTLP/gRPC collector, or nothing at all.

The standard variables say where to and how often (OTEL_EXPORTER_OTLP_ENDPOINT and its kin,
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/). Without an endpoint no
thread is started and the SDK is not even imported. The global providers are left alone: what is opened here
is handed to those who need it.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry.metrics import Meter, NoOpMeter
from opentelemetry.trace import NoOpTracer, Tracer

_SCOPE = "tally"
_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
_METRICS_ENDPOINT = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Where spans and metrics go; with `enabled` False it is nowhere, and the work can be skipped."""

    tracer: Tracer
    meter: Meter
    enabled: bool


OFF = Telemetry(NoOpTracer(), NoOpMeter(_SCOPE), enabled=False)


@dataclass(frozen=True, slots=True)
class _Pipeline:
    """One signal: `flush` sends what waits and ends it; `abandon` ends a sending that takes too long."""

    flush: Callable[[], None]
    abandon: Callable[[], None]


@contextmanager
def open_telemetry(service_name: str, *, flush_seconds: float = 5.0) -> Iterator[Telemetry]:
    """Spans and metrics of this process, as the standard variables say.

    `service_name` is what the collector sees unless OTEL_SERVICE_NAME says another. Leaving it sends what is
    waiting, for at most `flush_seconds`: a collector that is away loses it, and holds nobody up.
    """
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    traces = bool(os.environ.get(_TRACES_ENDPOINT) or os.environ.get(_ENDPOINT)) and not disabled
    metrics = bool(os.environ.get(_METRICS_ENDPOINT) or os.environ.get(_ENDPOINT)) and not disabled
    name = os.environ.get("OTEL_SERVICE_NAME") or service_name
    pipelines: list[_Pipeline] = []
    try:
        tracer = _open_traces(name, pipelines) if traces else OFF.tracer
        meter = _open_metrics(name, pipelines) if metrics else OFF.meter
        yield Telemetry(tracer, meter, enabled=traces or metrics)
    finally:
        _close(pipelines, flush_seconds)


def _open_traces(service_name: str, pipelines: list[_Pipeline]) -> Tracer:
    # importing the SDK takes longer than starting a service, so only those who use it pay
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    exporter = OTLPSpanExporter()
    provider = TracerProvider(
        resource=Resource.create({"service.name": service_name}), shutdown_on_exit=False
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    pipelines.append(_Pipeline(provider.shutdown, exporter.shutdown))
    return provider.get_tracer(_SCOPE)


def _open_metrics(service_name: str, pipelines: list[_Pipeline]) -> Meter:
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource

    exporter = OTLPMetricExporter()
    provider = MeterProvider(
        metric_readers=[PeriodicExportingMetricReader(exporter)],
        resource=Resource.create({"service.name": service_name}),
        shutdown_on_exit=False,
    )
    pipelines.append(_Pipeline(provider.shutdown, exporter.shutdown))
    return provider.get_meter(_SCOPE)


def _close(pipelines: list[_Pipeline], seconds: float) -> None:
    """Flush all at once and wait at most `seconds`: the SDK's own limits add up to a minute."""
    end = time.monotonic() + seconds
    flushing = [(threading.Thread(target=pipeline.flush, daemon=True), pipeline) for pipeline in pipelines]
    for thread, _ in flushing:
        thread.start()
    for thread, pipeline in flushing:
        thread.join(max(0.0, end - time.monotonic()))
        if thread.is_alive():
            pipeline.abandon()
