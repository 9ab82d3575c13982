"""A collector in this process: takes OTLP over gRPC and keeps what it is sent."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector:
    """What has arrived so far. Its server has threads of its own, so a blocked event loop does not stop it."""

    def __init__(self) -> None:
        self.endpoint = ""
        self._arrived = threading.Condition()
        self._spans: list[Span] = []
        self._metrics: list[Metric] = []
        self._services: set[str] = set()

    @property
    def spans(self) -> list[Span]:
        """All spans, in the order of arrival."""
        with self._arrived:
            return list(self._spans)

    @property
    def metrics(self) -> list[Metric]:
        """All metrics; one that was exported twice is there twice."""
        with self._arrived:
            return list(self._metrics)

    @property
    def services(self) -> set[str]:
        """The `service.name` of all who sent spans."""
        with self._arrived:
            return set(self._services)

    def wait_for_spans(self, count: int, *, seconds: float = 10) -> list[Span]:
        """The spans, as soon as there are `count`. Raises TimeoutError. Blocks: use it in a thread."""
        end = time.monotonic() + seconds
        with self._arrived:
            while len(self._spans) < count:
                if not self._arrived.wait(end - time.monotonic()):
                    raise TimeoutError(f"{len(self._spans)} spans came within {seconds} s, not {count}")
            return list(self._spans)

    def add_spans(self, request: trace_service_pb2.ExportTraceServiceRequest) -> None:
        with self._arrived:
            for resource in request.resource_spans:
                for attribute in resource.resource.attributes:
                    if attribute.key == "service.name":
                        self._services.add(attribute.value.string_value)
                for scope in resource.scope_spans:
                    self._spans.extend(scope.spans)
            self._arrived.notify_all()

    def add_metrics(self, request: metrics_service_pb2.ExportMetricsServiceRequest) -> None:
        with self._arrived:
            for resource in request.resource_metrics:
                for scope in resource.scope_metrics:
                    self._metrics.extend(scope.metrics)
            self._arrived.notify_all()


class _Traces(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def Export(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802 - the protocol's signature
        self._collector.add_spans(request)
        return trace_service_pb2.ExportTraceServiceResponse()


class _Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def Export(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802 - the protocol's signature
        self._collector.add_metrics(request)
        return metrics_service_pb2.ExportMetricsServiceResponse()


@contextmanager
def open_collector() -> Iterator[Collector]:
    """A collector on a free loopback port; `endpoint` is what OTEL_EXPORTER_OTLP_ENDPOINT should say."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(max_workers=2), options=[("grpc.so_reuseport", 0)])
    add: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server  # Any, for it has no types
    add(_Traces(collector), server)
    add = metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server
    add(_Metrics(collector), server)
    collector.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield collector
    finally:
        server.stop(None).wait()
