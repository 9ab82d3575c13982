"""OpenTelemetry in one place: traces and metrics to an OTLP/gRPC collector, or nothing at all.

The standard variables say where to and how often (OTEL_EXPORTER_OTLP_ENDPOINT and its kin,
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/). Without an endpoint no
thread is started and the SDK is not even imported. The global providers are left alone: what is opened here
is handed to those who need it.
"""

import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry.metrics import Meter, NoOpMeter
from opentelemetry.trace import NoOpTracer, Tracer

from tally.contract.errors import NotReady

_SCOPE = "tally"
_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


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
    waiting, for at most `flush_seconds`: if the collector is unreachable, the data are lost, and nothing is delayed.

    Raises NotReady when one of the variables cannot be used.
    """
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    traces = not disabled and _is_wanted("TRACES")
    metrics = not disabled and _is_wanted("METRICS")
    name = os.environ.get("OTEL_SERVICE_NAME") or service_name
    pipelines: list[_Pipeline] = []
    try:
        with _explaining():
            tracer = _open_traces(name, pipelines) if traces else OFF.tracer
            meter = _open_metrics(name, pipelines) if metrics else OFF.meter
        yield Telemetry(tracer, meter, enabled=traces or metrics)
    finally:
        _close(pipelines, flush_seconds)


def _is_wanted(signal: str) -> bool:
    """Whether the variables ask for TRACES or METRICS. Raises NotReady for what they may not say."""
    exporter = os.environ.get(f"OTEL_{signal}_EXPORTER") or "otlp"
    if exporter not in ("otlp", "none"):
        raise NotReady(f"OTEL_{signal}_EXPORTER is {exporter!r}, and Tally knows only otlp and none")
    endpoint = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    if exporter == "none" or not (endpoint or os.environ.get(_ENDPOINT)):
        return False
    for name in ("OTEL_EXPORTER_OTLP_TIMEOUT", f"OTEL_EXPORTER_OTLP_{signal}_TIMEOUT"):
        _check_seconds(name)
    return True


def _check_seconds(name: str) -> None:
    value = os.environ.get(name)
    try:
        if value is None or 0 < float(value) < math.inf:
            return
    except ValueError:
        pass
    raise NotReady(f"{name} is {value!r}, and must be a number of seconds, such as 10")


@contextmanager
def _explaining() -> Iterator[None]:
    """Context for code that reads the variables for the SDK."""
    try:
        yield
    except Exception as error:  # the SDK has no error of its own for them
        names = ", ".join(sorted(name for name in os.environ if name.startswith("OTEL_")))
        raise NotReady(f"OpenTelemetry cannot be set up: {error}. Check its variables: {names}") from error


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
