"""OpenTelemetry in one place: traces and metrics to an OTLP/gRPC collector, and at an HTTP endpoint of this process.

The standard variables say where to and how often (OTEL_EXPORTER_OTLP_ENDPOINT and its kin,
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/); `TelemetrySettings` has the address
of the endpoint, and how many requests are traced. Without either no thread is started and the SDK is not even imported.
The global providers are left alone: what is opened here is handed to those who need it.
"""

import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opentelemetry.metrics import Meter, NoOpMeter
from opentelemetry.trace import NoOpTracer, Tracer

from libs.telemetry.sampling import SamplingTracer
from libs.telemetry.settings import TelemetrySettings
from tally.contract.errors import NotReady

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.trace import SpanProcessor

_SCOPE = "tally"
_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_SAMPLER = "OTEL_TRACES_SAMPLER"
_DEFAULTS = TelemetrySettings()


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Where spans and metrics go; with `enabled` False it is nowhere, and the work can be skipped."""

    tracer: Tracer
    meter: Meter
    enabled: bool
    address: str | None = None
    """`host:port` of the HTTP endpoint"""


OFF = Telemetry(NoOpTracer(), NoOpMeter(_SCOPE), enabled=False)


@dataclass(frozen=True, slots=True)
class _Pipeline:
    """One signal: `flush` sends what waits and ends it; `abandon` ends a sending that takes too long."""

    flush: Callable[[], None]
    abandon: Callable[[], None]


@contextmanager
def open_telemetry(
    service_name: str, settings: TelemetrySettings = _DEFAULTS, *, flush_seconds: float = 5.0
) -> Iterator[Telemetry]:
    """Spans and metrics of this process, as the standard variables and the settings say.

    `service_name` is what the collector sees unless OTEL_SERVICE_NAME says another. Leaving it sends what is
    waiting, for at most `flush_seconds`: if the collector is unreachable, the data are lost, and nothing is delayed.

    Raises NotReady when one of the variables cannot be used, or the address.
    """
    is_on = os.environ.get("OTEL_SDK_DISABLED", "").lower() != "true"
    signals = _Signals(
        os.environ.get("OTEL_SERVICE_NAME") or service_name,
        settings,
        sends_traces=is_on and _is_wanted("TRACES"),
        sends_metrics=is_on and _is_wanted("METRICS"),
        address=settings.address if is_on else None,
    )
    try:
        with ExitStack() as stack:
            with _explaining():
                telemetry = signals.open(stack)
            yield telemetry
    finally:
        _close(signals.pipelines, flush_seconds)


class _Signals:
    """Traces and metrics, each with the exporters that are wanted."""

    def __init__(
        self,
        service_name: str,
        settings: TelemetrySettings,
        *,
        sends_traces: bool,
        sends_metrics: bool,
        address: str | None,
    ) -> None:
        self.pipelines: list[_Pipeline] = []
        self._name = service_name
        self._settings = settings
        self._sends_traces = sends_traces
        self._sends_metrics = sends_metrics
        self._address = address

    def open(self, stack: ExitStack) -> Telemetry:
        """Open what is wanted; `stack` closes the endpoint."""
        processors: list[SpanProcessor] = []
        readers: list[MetricReader] = []
        address = None
        # importing the SDK takes longer than starting a service, so only those who use it pay
        if self._address is not None:
            from opentelemetry.exporter.prometheus import PrometheusMetricReader
            from prometheus_client import CollectorRegistry

            from libs.telemetry.endpoint import open_endpoint
            from libs.telemetry.recent_spans import RecentSpans

            registry, recent = CollectorRegistry(), RecentSpans(self._settings.spans_kept)
            processors.append(recent)
            readers.append(PrometheusMetricReader(scope_info_enabled=False, registry=registry))
            address = stack.enter_context(open_endpoint(self._address, registry, recent))
        tracer = self._open_traces(processors) if processors or self._sends_traces else OFF.tracer
        meter = self._open_metrics(readers) if readers or self._sends_metrics else OFF.meter
        enabled = tracer is not OFF.tracer or meter is not OFF.meter
        return Telemetry(tracer, meter, enabled, address)

    def _open_traces(self, processors: "list[SpanProcessor]") -> Tracer:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON

        has_sampler = bool(os.environ.get(_SAMPLER))
        provider = TracerProvider(
            sampler=None if has_sampler else ALWAYS_ON,  # None: as the variable says
            resource=Resource.create({"service.name": self._name}),
            shutdown_on_exit=False,
        )
        for processor in processors:
            provider.add_span_processor(processor)
        abandon: Callable[[], None] = _nothing
        if self._sends_traces:
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.trace.export import BatchSpanProcessor

            exporter = OTLPSpanExporter()
            provider.add_span_processor(BatchSpanProcessor(exporter))
            abandon = exporter.shutdown
        self.pipelines.append(_Pipeline(provider.shutdown, abandon))
        tracer = provider.get_tracer(_SCOPE)
        return tracer if has_sampler else SamplingTracer(tracer, self._settings.trace_ratio)

    def _open_metrics(self, readers: "list[MetricReader]") -> Meter:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.resources import Resource

        abandon: Callable[[], None] = _nothing
        if self._sends_metrics:
            from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
            from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

            exporter = OTLPMetricExporter()
            readers.append(PeriodicExportingMetricReader(exporter))
            abandon = exporter.shutdown
        provider = MeterProvider(
            metric_readers=readers,
            resource=Resource.create({"service.name": self._name}),
            shutdown_on_exit=False,
        )
        self.pipelines.append(_Pipeline(provider.shutdown, abandon))
        return provider.get_meter(_SCOPE)


def _nothing() -> None:
    return None


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
    except NotReady:
        raise
    except Exception as error:  # the SDK has no error of its own for them
        names = ", ".join(sorted(name for name in os.environ if name.startswith("OTEL_")))
        raise NotReady(f"OpenTelemetry cannot be set up: {error}. Check its variables: {names}") from error


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
